// What every page needs: texts, the API, elements, dialogs, and how times and figures read.

export const lang = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
const side = lang === "zh" ? 0 : 1;
const body = document.body;

export const me = {
  id: body.dataset.userId || "",
  name: body.dataset.userName || "",
  role: body.dataset.role || "",
  permissions: new Set((body.dataset.permissions || "").split(" ")),
};
export const may = (permission) => me.permissions.has(permission);
export const main = document.getElementById("main");

const texts = await (await fetch("/static/texts.json", { credentials: "same-origin" })).json();

/** The text of `key` in the page's language, with `{name}` filled in. */
export function t(key, values = {}) {
  const text = texts[key]?.[side] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// --- elements -------------------------------------------------------------------------

/** An element; `props` are properties, `data-`/`aria-` attributes, `on…` listeners. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "vars") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (name in element && !(element instanceof SVGElement) && !name.includes("-") && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** Marks on a meter of four; colour is never the only sign. */
export function severity(level) {
  const rank = { low: 1, medium: 2, high: 3, critical: 4 }[level] ?? 1;
  const label = word("severities", level);
  return h("span", { class: `meter s-${level}`, role: "img", "aria-label": label, title: label },
    ...[1, 2, 3, 4].map((step) => h("i", { class: step <= rank ? "on" : "" })));
}

export const disposition = (id) => h("span", { class: `tag d-${id}` }, word("dispositions", id));
export const statusTag = (id) => h("span", { class: `tag st-${id}` }, word("statuses", id));
export const kbd = (key) => h("kbd", {}, key);
export const muted = (...children) => h("span", { class: "muted" }, ...children);

export function option(value, label, selected) {
  return h("option", { value, selected: Boolean(selected) }, label);
}

export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), ...more);
}

// --- the API --------------------------------------------------------------------------

export class Problem extends Error {
  constructor(status, problem) {
    super(localTimes(problem.detail || problem.title || String(status)));
    this.status = status;
    this.code = problem.code || "";
    this.mend = problem.mend || "";
  }
}

/** Instants in a message, as the clock on the wall here shows them. */
const localTimes = (words_) => words_.replace(/\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)/g, shortStamp);

/** Call the API; throws a Problem. `data` is sent as JSON, a FormData or Blob as it is. */
export async function api(method, path, data, { headers = {}, signal, raw = false } = {}) {
  const sent = { Accept: "application/json, application/problem+json", ...headers };
  const token = document.querySelector("meta[name=csrf-token]")?.content;
  if (token && method !== "GET") sent["X-CSRF-Token"] = token;
  let content;
  if (data instanceof FormData || data instanceof Blob) content = data;
  else if (data !== undefined) {
    content = JSON.stringify(data);
    sent["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers: sent, body: content, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: t("problem.away"), code: "away" });
  }
  if (answer.status === 401 && me.id && !path.startsWith("/auth/")) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    throw new Problem(answer.status, problem);
  }
  if (raw) return answer;
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, options) => api("GET", path, undefined, options);
export const post = (path, data, options) => api("POST", path, data, options);

/** A query string; lists repeat their name, empty values are left out. */
export function query(values) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) out.append(name, one);
    }
  }
  const text = out.toString();
  return text ? `?${text}` : "";
}

let metaWords = null;
const builtIn = {};

/** The words of the lists (categories, statuses, …), once a page. */
export async function loadMeta() {
  if (metaWords) return metaWords;
  metaWords = await get("/meta");
  for (const [list, items] of Object.entries(metaWords)) {
    if (!Array.isArray(items)) continue;
    builtIn[list] = new Map(items.map((one) => [one.id ?? one, one[lang] ?? one]));
  }
  return metaWords;
}

/** What `id` of `list` is called; itself where nobody named it. */
export const word = (list, id) => builtIn[list]?.get(id) ?? id;
export const words = (list) => [...(builtIn[list] ?? new Map())];

// --- telling people -------------------------------------------------------------------

export function toast(message, { kind = "", action, label, keep = 6000 } = {}) {
  const box = h("div", { class: `toast ${kind}` }, h("span", {}, message));
  if (action) box.append(h("button", { type: "button", class: "link", onclick: () => { box.remove(); action(); } }, label));
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), keep);
  return box;
}

export function fail(error) {
  if (error.name === "AbortError") return;
  toast([error.message, error.mend].filter(Boolean).join(lang === "zh" ? "；" : " — "), { kind: "bad", keep: 9000 });
  if (!(error instanceof Problem)) console.error(error);
}

/** Run `work`, and show what went wrong. */
export async function tried(work) {
  try {
    return await work();
  } catch (error) {
    fail(error);
    return undefined;
  }
}

/** A modal dialog; resolves with what `close(value)` is given, undefined when it is left. */
export function dialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    let value;
    const back = document.activeElement;
    const close = (given) => { value = given; box.close(); };
    const box = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": "dialog-title" },
      h("header", {}, h("h2", { id: "dialog-title" }, title),
        h("button", { type: "button", class: "ghost", "aria-label": t("close"), onclick: () => close() }, "×")));
    box.append(...[build(close)].flat());
    box.addEventListener("close", () => { box.remove(); back?.focus?.(); resolve(value); });
    box.addEventListener("click", (event) => { if (event.target === box) close(); });
    document.body.append(box);
    box.showModal();
    box.querySelector("[autofocus], [data-first]")?.focus({ preventScroll: true });
    box.scrollTop = 0;
  });
}

export const dialogOpen = () => document.querySelector("dialog[open]") !== null;

/** Ask for a text; resolves with it, or undefined. */
export function ask(title, { label = "", value = "", rows = 3, required = true, ok = t("save"), hint = "" } = {}) {
  return dialog(title, (close) => {
    const area = rows > 1
      ? h("textarea", { rows, value, required, "data-first": "", "aria-label": label || title, maxLength: 5000 })
      : h("input", { value, required, "data-first": "", "aria-label": label || title, maxLength: 200 });
    const send = () => { if (area.value.trim() || !required) close(area.value.trim()); else area.focus(); };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing && (event.ctrlKey || event.metaKey || rows === 1)) {
        event.preventDefault();
        send();
      }
    });
    return [
      h("label", { class: "field" }, label ? h("span", {}, label) : null, area),
      h("footer", {}, muted(hint || (rows > 1 ? t("ask.send") : "")), h("button", { type: "button", class: "primary", onclick: send }, ok)),
    ];
  });
}

/** An explanation without the exemptions that the page lists by themselves. */
export const reasonText = (record) => record.explanation.replace(`已考虑但不适用的例外：${record.exemptions_considered.join("、")}。`, "");

/** Whether a sentence is Chinese, though it may quote words of another language. */
export const readsChinese = (sentence) => (sentence.match(/[一-鿿]/gu) ?? []).length > (sentence.match(/[a-z]/giu) ?? []).length / 2;

// --- how things read ------------------------------------------------------------------

/** Media-clock seconds as 3:07.2 or 1:02:03. */
export function clock(seconds, tenths = false) {
  const ticks = Math.max(0, tenths ? Math.round(seconds * 10) : Math.floor(seconds) * 10);
  const whole = Math.floor(ticks / 10);
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const text = hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return tenths ? `${text}.${ticks % 10}` : text;
}

const locale = lang === "zh" ? "zh-CN" : "en-GB";
const dayTime = new Intl.DateTimeFormat(locale, { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hour12: false });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium", hour12: false });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "narrow" });

export const stamp = (text) => (text ? full.format(new Date(text)) : "–");
export const shortStamp = (text) => (text ? dayTime.format(new Date(text)) : "–");

export function ago(text) {
  if (!text) return "–";
  const seconds = (new Date(text) - Date.now()) / 1000;
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return t("time.now");
}

export function time(text, short = true) {
  return h("time", { dateTime: text ?? "", title: stamp(text) }, short ? shortStamp(text) : stamp(text));
}

export const percent = (value) => `${Math.round(value * 100)}%`;

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB"];
  let at = 0;
  while (count >= 1000 && at < 3) { count /= 1000; at += 1; }
  return `${count < 10 && at ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

/** `text` with the code points [begin, end) marked. */
export function marked(text, begin, end, className = "fault") {
  const points = [...text];
  return [
    points.slice(0, begin).join(""),
    h("mark", { class: className }, points.slice(begin, end).join("")),
    points.slice(end).join(""),
  ];
}

/** `fn` once `wait` milliseconds have passed without another call. */
export function debounced(fn, wait) {
  let timer;
  return (...args) => { clearTimeout(timer); timer = setTimeout(() => fn(...args), wait); };
}

/** What this browser keeps; a browser that keeps nothing still works. */
export const store = {
  get(key, otherwise) {
    try { return JSON.parse(localStorage.getItem(`moderator.${key}`)) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { localStorage.setItem(`moderator.${key}`, JSON.stringify(value)); } catch { /* full or refused */ }
  },
};
export const tabStore = {
  get(key, otherwise) {
    try { return JSON.parse(sessionStorage.getItem(`moderator.${key}`)) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { sessionStorage.setItem(`moderator.${key}`, JSON.stringify(value)); } catch { /* full or refused */ }
  },
};

export function download(url, name = "") {
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

/** Give the browser `blob` as a file. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  download(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// --- the bar at the top ---------------------------------------------------------------

function cookie(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax`;
}

export function setLanguage(next) {
  cookie("moderator_lang", next);
  location.reload();
}

document.getElementById("lang-button")?.addEventListener("click", () => setLanguage(lang === "zh" ? "en" : "zh"));
document.getElementById("theme-button")?.addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  cookie("moderator_theme", dark ? "light" : "dark");
});
