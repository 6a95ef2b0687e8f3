// Small pictures of tables, drawn as SVG: bars, stacked days, ranges.

import { h, s } from "./core.js";

export const COLOURS = 7;

/** Horizontal bars; each row is {label, title, parts: [{value, kind}]}. */
export function bars(rows, { format = String, max } = {}) {
  const top = max ?? Math.max(1e-9, ...rows.map((row) => row.parts.reduce((sum, part) => sum + part.value, 0)));
  return h("div", { class: "bars", role: "table" }, rows.map((row) => {
    const total = row.parts.reduce((sum, part) => sum + part.value, 0);
    let x = 0;
    const picture = s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "bar-svg", "aria-hidden": "true" },
      row.parts.map((part) => {
        const width = (part.value / top) * 100;
        const rect = s("rect", { class: `c-${part.kind}`, x, y: 1, width: Math.max(part.value ? 0.4 : 0, width), height: 8 });
        x += width;
        return rect;
      }));
    return h("div", { class: "bar-row", role: "row", title: row.title ?? "" },
      h("span", { class: "bar-label", role: "rowheader" }, row.label), picture, h("span", { class: "bar-value num", role: "cell" }, row.value ?? format(total)));
  }));
}

/** Stacked columns by day; `series` maps a name to day → value. */
export function days(series, labelOf) {
  const all = [...new Set([...series.values()].flatMap((one) => [...one.keys()]))].sort();
  const list = [];
  if (all.length) {
    for (let day = new Date(`${all[0]}T00:00:00Z`); day <= new Date(`${all.at(-1)}T00:00:00Z`) && list.length < 400; day.setUTCDate(day.getUTCDate() + 1)) list.push(day.toISOString().slice(0, 10));
  }
  while (list.length < 14) {
    const day = new Date(`${list[0] ?? new Date().toISOString().slice(0, 10)}T00:00:00Z`);
    day.setUTCDate(day.getUTCDate() - 1);
    list.unshift(day.toISOString().slice(0, 10));
  }
  const names = [...series.keys()];
  const total = (day) => names.reduce((sum, name) => sum + (series.get(name).get(day) ?? 0), 0);
  const top = Math.max(1, ...list.map(total));
  const W = Math.max(320, Math.min(1500, document.getElementById("main").clientWidth - 74)), H = 190, left = 34, bottom = 22;
  const step = (W - left) / list.length;
  const y = (value) => (H - bottom) * (1 - value / top) + 4;
  const ticks = [...new Set([0, Math.round(top / 2), top])];
  const picture = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "days", role: "img", "aria-label": names.map(labelOf).join(", ") },
    ticks.map((value) => [s("line", { class: "grid", x1: left, x2: W, y1: y(value), y2: y(value) }), s("text", { class: "axis", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value))]),
    list.map((day, index) => {
      let height = 0;
      const parts = names.map((name, order) => {
        const value = series.get(name).get(day) ?? 0;
        if (!value) return null;
        const rect = s("rect", { class: `k-${order % COLOURS}`, x: left + index * step + step * 0.14, width: Math.min(step * 0.72, 38), y: y(height + value), height: Math.max(0, y(height) - y(height + value) - 0.5) }, s("title", {}, `${day} ${labelOf(name)} ${value}`));
        height += value;
        return rect;
      });
      const every = Math.ceil(list.length / Math.max(4, Math.min(15, W / 70)));
      return [parts, index % every === 0 ? s("text", { class: "axis", x: left + index * step + step / 2, y: H - 5, "text-anchor": "middle" }, day.slice(5)) : null];
    }));
  return h("div", {}, picture, h("ul", { class: "legend" }, names.map((name, order) => h("li", {}, h("i", { class: `k-${order % COLOURS}` }), labelOf(name)))));
}

/** A share with its confidence interval on a line from 0 to 1. */
export function interval(value, low, high) {
  if (value === null) return "–";
  return s("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", class: "interval", "aria-hidden": "true" },
    s("rect", { class: "grid-fill", x: 0, y: 5.4, width: 100, height: 1.2 }),
    s("rect", { class: "range", x: low * 100, y: 4, width: Math.max(1, (high - low) * 100), height: 4 }),
    s("rect", { class: "point", x: value * 100 - 0.8, y: 1, width: 1.6, height: 10 }));
}
