// The keyboard: actions have names, keys are kept per browser and can be changed.

import { dialog, dialogOpen, h, kbd, store, t, toast } from "./core.js";

const actions = new Map();
let own = store.get("keys", {});

/** Whether letters typed now belong to a field. */
function typing(target) {
  return target.closest?.("textarea, select, [contenteditable], input:not([type=checkbox]):not([type=radio]):not([type=button])") !== null;
}

/** What a key press is called: `j`, `?`, `ArrowDown`, `Alt+ArrowDown`. */
function nameOf(event) {
  const key = event.key === " " ? "Space" : event.key;
  const plain = key.length === 1 ? key.toLowerCase() : key;
  return `${event.altKey ? "Alt+" : ""}${event.shiftKey && (key.length > 1 || /[a-z]/.test(plain)) ? "Shift+" : ""}${plain}`;
}

const SHOWN = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Enter: "↵", Escape: "Esc", Space: "␣" };
export function shown(key) {
  return key.split("+").map((part) => SHOWN[part] ?? (part.length === 1 ? part : part)).join("+");
}

/** Bind `run` to an action of `group`; `keys` are its keys where the browser has no others. */
export function bind(group, name, keys, run, { fields = false } = {}) {
  actions.set(name, { group, name, keys: [keys].flat(), run, fields });
}

export const keysOf = (name) => own[name] ?? actions.get(name)?.keys ?? [];
/** The first key of an action, as a hint on its button. */
export const hint = (name) => (keysOf(name)[0] ? kbd(shown(keysOf(name)[0])) : "");

let pending = "";
document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  const pressed = nameOf(event);
  if (dialogOpen()) return;
  const inField = typing(event.target);
  if (inField && pressed === "Escape") { event.target.blur(); event.preventDefault(); return; }
  const name = pending ? `${pending} ${pressed}` : pressed;
  pending = "";
  for (const action of actions.values()) {
    if (inField && !action.fields) continue;
    const keys = keysOf(action.name);
    if (keys.includes(name)) {
      const onButton = (pressed === "Enter" || pressed === "Space") && event.target.closest?.("button, a, summary, video, [role=button]");
      if (onButton) return;
      event.preventDefault();
      action.run(event);
      return;
    }
  }
  if (!inField && [...actions.values()].some((action) => keysOf(action.name).some((key) => key.startsWith(`${name} `)))) {
    pending = name;
    setTimeout(() => { pending = ""; }, 1200);
  }
});

/** The map of all keys, where they can be changed too. */
export function showKeys() {
  if (dialogOpen()) return;
  dialog(t("keys.title"), (close) => {
    const list = h("div", { class: "keymap" });
    const draw = () => {
      list.replaceChildren();
      const groups = Map.groupBy ? Map.groupBy(actions.values(), (one) => one.group) : grouped(actions.values());
      for (const [group, items] of groups) {
        const rows = items.map((action) => h("div", { class: "keymap-row" },
          h("span", {}, t(`key.${action.name}`)),
          h("span", { class: "keymap-keys" }, keysOf(action.name).map((key) => kbd(key.split(" ").map(shown).join(" ")))),
          h("button", { type: "button", class: "link", "aria-label": `${t("keys.change")}: ${t(`key.${action.name}`)}`,
            onclick: (event) => capture(event.currentTarget, action, draw) }, t("keys.change"))));
        list.append(h("section", {}, h("h3", {}, t(`keys.group.${group}`)), ...rows));
      }
    };
    draw();
    return [list, h("footer", {},
      h("button", { type: "button", class: "link", onclick: () => { own = {}; store.set("keys", own); draw(); } }, t("keys.reset")),
      h("button", { type: "button", "data-first": "", onclick: () => close() }, t("close")))];
  }, { wide: true });
}

function grouped(items) {
  const out = new Map();
  for (const one of items) out.set(one.group, [...(out.get(one.group) ?? []), one]);
  return out;
}

function capture(button, action, draw) {
  button.textContent = t("keys.press");
  button.classList.add("listening");
  const listen = (event) => {
    if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    document.removeEventListener("keydown", listen, true);
    const key = nameOf(event);
    if (event.key !== "Escape") {
      const taken = [...actions.values()].find((one) => one.name !== action.name && keysOf(one.name).includes(key));
      if (taken) toast(t("keys.taken", { key: shown(key), action: t(`key.${taken.name}`) }), { kind: "bad" });
      else {
        own = { ...own, [action.name]: [key] };
        store.set("keys", own);
        document.dispatchEvent(new CustomEvent("keys-changed"));
      }
    }
    draw();
  };
  document.addEventListener("keydown", listen, true);
}

/** The keys that every page has. */
export function bindCommon() {
  bind("everywhere", "help", "?", showKeys);
  for (const link of document.querySelectorAll("[data-section]")) {
    const letter = { queue: "q", rooms: "r", check: "c", dashboards: "d", audit: "l", users: "u" }[link.dataset.section];
    bind("everywhere", `go.${link.dataset.section}`, `g ${letter}`, () => location.assign(link.href));
  }
  document.getElementById("keys-button")?.addEventListener("click", showKeys);
}
