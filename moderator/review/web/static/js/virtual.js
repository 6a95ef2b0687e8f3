// A list that draws only the rows in view, and asks for more before its end is reached.

import { h } from "./core.js";

export class VirtualList {
  /** `draw(item, index)` makes a row's element; `more()` is awaited near the end. */
  constructor({ draw, more, rowHeight, label }) {
    this.draw = draw;
    this.more = more;
    this.rowHeight = rowHeight;
    this.items = [];
    this.rows = new Map();
    this.active = -1;
    this.space = h("ol", { class: "rows", "aria-label": label });
    this.element = h("div", { class: "scroll" }, this.space);
    this.element.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  set(items) {
    this.items = items;
    this.refresh();
  }

  /** Draw everything in view again. */
  refresh() {
    const focused = this.space.contains(document.activeElement);
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.active = Math.min(this.active, this.items.length - 1);
    this.#paint();
    if (focused) this.#focus();
  }

  /** Draw one row again. */
  redraw(index) {
    const focused = this.rows.get(index)?.contains(document.activeElement);
    this.rows.get(index)?.remove();
    this.rows.delete(index);
    this.#paint();
    if (focused) this.#focus();
  }

  /** Make `index` the active row, in view, and focused when `focus`. */
  activate(index, focus = true) {
    if (!this.items.length) return;
    const before = this.active;
    this.active = Math.max(0, Math.min(index, this.items.length - 1));
    const height = this.rowHeight();
    const top = this.active * height;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + height > scrollTop + clientHeight) this.element.scrollTop = top + height - clientHeight;
    for (const one of [before, this.active]) this.rows.get(one)?.classList.toggle("active", one === this.active);
    this.#paint();
    if (focus) this.#focus();
  }

  #focus() { this.rows.get(this.active)?.querySelector("a")?.focus({ preventScroll: true }); }

  #resized() {
    if (this.lastHeight !== this.rowHeight()) this.refresh();
    else this.#soon();
  }

  #soon() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.#paint(); });
  }

  #paint() {
    const height = this.rowHeight();
    this.lastHeight = height;
    this.space.style.setProperty("height", `${this.items.length * height}px`);
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - 8);
    const last = Math.min(this.items.length - 1, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + 8);
    for (const [index, row] of this.rows) {
      if (index < first || index > last) { row.remove(); this.rows.delete(index); }
    }
    for (let index = first; index <= last; index += 1) {
      if (this.rows.has(index)) continue;
      const row = h("li", { class: "row", "aria-posinset": index + 1, "aria-setsize": this.items.length, vars: { top: `${index * height}px` } },
        this.draw(this.items[index], index));
      row.classList.toggle("active", index === this.active);
      this.rows.set(index, row);
      const after = [...this.rows.keys()].filter((one) => one > index).sort((a, b) => a - b)[0];
      this.space.insertBefore(row, after === undefined ? null : this.rows.get(after));
    }
    if (last >= this.items.length - 40) this.more();
  }
}
