// Pre-check: the script is marked as it is typed, and a lawful wording is one key away.

import {
  api, bytes, debounced, disposition, empty, fail, get, h, lang, loadMeta, main, may, muted, option, post, reasonText, saveBlob, severity, t, tabStore, toast, tried, word,
} from "./core.js";
import { bind, bindCommon, hint } from "./keys.js";
import { Uploads } from "./uploads.js";

await loadMeta();
bindCommon();

const kept = tabStore.get("check", { text: "", kind: "txt", products: [], name: "" });
let marks = [];
let current = -1;
let checked = "";
let asking = null;
let chosen = new Set(kept.products);
let passports = [];
const accepted = [];

// --- the page ---------------------------------------------------------------------------

const area = h("textarea", { class: "script", value: kept.text, spellcheck: false, "aria-label": t("check.script"), "aria-describedby": "check-state", placeholder: t("check.placeholder"), maxLength: 200000 });
const behind = h("div", { class: "script behind", "aria-hidden": "true" });
const paper = h("div", { class: "paper" }, behind, area);
const state = h("p", { class: "check-state", id: "check-state", role: "status" });
const list = h("ol", { class: "findings", "aria-label": t("check.findings") });
const kind = h("select", { "aria-label": t("check.kind"), onchange: () => { keep(); checkSoon(); } }, ["txt", "md", "srt", "vtt"].map((one) => option(one, t(`check.kind.${one}`), one === kept.kind)));
const scriptFile = h("input", { type: "file", accept: ".txt,.text,.md,.markdown,.srt,.vtt,.docx", hidden: true, onchange: () => openScript(scriptFile.files[0]) });
const picker = h("details", { class: "picker" }, h("summary", {}, t("check.products")));
const uploads = new Uploads({ products: () => [...chosen] });
const downloads = ["docx", "txt", "html"].map((format) => h("button", { type: "button", "data-format": format, onclick: () => take(format) }, format));

main.classList.add("check");
main.append(
  h("h1", { class: "sr" }, t("nav.check")),
  h("section", { class: "check-left" },
    h("div", { class: "bar" }, kind, picker, h("span", { class: "push" }),
      h("button", { type: "button", onclick: () => scriptFile.click() }, t("check.open")), scriptFile,
      h("div", { class: "joined", role: "group", "aria-label": t("check.download") }, h("span", { class: "label" }, t("check.download")), downloads)),
    paper, state),
  h("section", { class: "check-right" }, list),
  uploads.element);

// --- checking ---------------------------------------------------------------------------

const checkSoon = debounced(check, 280);

async function check() {
  asking?.abort();
  asking = new AbortController();
  const text = area.value;
  state.classList.add("working");
  try {
    const found = text.trim()
      ? await post("/check", { text, kind: kind.value, products: [...chosen], lang }, { signal: asking.signal })
      : { marks: [], took_ms: 0, text };
    if (area.value !== text) return;
    checked = text;
    marks = placed(text, found);
    current = marks.length ? Math.max(0, Math.min(current, marks.length - 1)) : -1;
    paint();
    drawList();
    tell(found);
    state.classList.remove("working");
  } catch (error) {
    if (error.name === "AbortError") return;
    state.classList.remove("working");
    state.textContent = [error.message, error.mend].filter(Boolean).join(" ");
  }
}

/** Marks in UTF-16 units of what stands in the field; the API counts code points. */
function placed(text, found) {
  const units = [0];
  for (const char of found.text) units.push(units.at(-1) + char.length);
  const same = found.text === text;
  return found.marks.map((mark) => {
    let begin = units[mark.begin] ?? text.length;
    let end = units[mark.end] ?? text.length;
    if (!same) {
      begin = text.indexOf(mark.record.quote);
      end = begin + mark.record.quote.length;
    }
    return { ...mark, begin, end };
  }).filter((mark) => mark.begin >= 0 && mark.end >= mark.begin);
}

function tell(found) {
  const worst = marks.filter((one) => one.record.disposition === "violation").length;
  state.replaceChildren(...(area.value.trim() ? [
    h("b", { class: marks.length ? (worst ? "bad" : "warn") : "good" }, marks.length ? t("check.found", { count: marks.length, worst }) : t("check.clean")),
    muted(t("check.took", { chars: [...area.value].length })),
    accepted.length ? muted(t("check.accepted", { count: accepted.length })) : "",
  ] : [muted(t("check.hint"))]));
}

// --- the text with its marks ---------------------------------------------------------------

/** While the answer is on its way: marks behind what was typed move along, those in it go. */
function shift() {
  const now = area.value;
  let head = 0;
  while (head < now.length && head < checked.length && now[head] === checked[head]) head += 1;
  let tail = 0;
  while (tail < now.length - head && tail < checked.length - head && now[now.length - 1 - tail] === checked[checked.length - 1 - tail]) tail += 1;
  const by = now.length - checked.length;
  const from = checked.length - tail;
  marks = marks.filter((mark) => mark.end <= head || mark.begin >= from)
    .map((mark) => (mark.begin >= from && from >= head && mark.begin >= head ? { ...mark, begin: mark.begin + by, end: mark.end + by } : mark));
  checked = now;
}

function paint() {
  const text = area.value;
  const out = [];
  let at = 0;
  marks.forEach((mark, index) => {
    if (mark.begin < at || mark.end <= mark.begin) return;
    out.push(text.slice(at, mark.begin), h("mark", { class: `d-${mark.record.disposition} ${index === current ? "current" : ""}` }, text.slice(mark.begin, mark.end)));
    at = mark.end;
  });
  out.push(text.slice(at), "\n");
  behind.replaceChildren(...out);
  behind.scrollTop = area.scrollTop;
}

area.addEventListener("scroll", () => { behind.scrollTop = area.scrollTop; }, { passive: true });
area.addEventListener("input", () => { shift(); paint(); keep(); checkSoon(); });
area.addEventListener("click", () => choose(markAt(area.selectionStart), { move: false }));
area.addEventListener("keyup", (event) => { if (event.key.startsWith("Arrow") && !event.altKey) choose(markAt(area.selectionStart), { move: false }); });

const markAt = (place) => marks.findIndex((mark) => mark.begin <= place && place <= mark.end);

function keep() {
  tabStore.set("check", { text: area.value.length < 1_000_000 ? area.value : "", kind: kind.value, products: [...chosen], name: kept.name });
}

// --- what was found --------------------------------------------------------------------------

function drawList() {
  if (!marks.length) {
    list.replaceChildren(h("li", { class: "nothing" }, area.value.trim()
      ? empty(t("check.clean"), muted(t("check.clean.more")))
      : empty(t("check.empty"), h("p", {}, t("check.empty.more")), h("button", { type: "button", class: "link", onclick: example }, t("check.example")))));
    return;
  }
  list.replaceChildren(...marks.map(finding));
}

function finding(mark, index) {
  const { record } = mark;
  const citation = mark.articles[0];
  return h("li", { class: `finding ${index === current ? "current" : ""}`, "data-index": index },
    h("button", { type: "button", class: "finding-head", onclick: () => choose(index), "aria-expanded": index === current },
      severity(record.severity), h("b", { class: "quote" }, record.quote || record.rule.title), disposition(record.disposition),
      h("span", { class: "muted" }, word("categories", record.category)), h("span", { class: "push" }), muted(t("check.line", { line: mark.line }))),
    mark.rewrites.length ? h("div", { class: "rewrites" }, h("span", { class: "label" }, t("check.instead")),
      mark.rewrites.map((words, number) => h("button", { type: "button", class: "rewrite", "data-rewrite": "", title: t("check.replaces", { words: area.value.slice(...reach(mark, words)) }), onclick: () => accept(index, words) }, words, number === 0 && index === current ? [" ", hint("check.accept")] : ""))) : null,
    index === current ? h("div", { class: "finding-body" },
      h("p", {}, reasonText(record)),
      record.suggestion ? h("p", { class: "suggest" }, h("span", { class: "label" }, t("case.instead")), record.suggestion) : null,
      citation ? h("details", { class: "article" }, h("summary", {}, h("b", {}, `${citation.title.startsWith("《") ? citation.title : `《${citation.title}》`}${citation.article}`)), citation.text ? h("blockquote", {}, citation.text) : muted(t("case.unverified"))) : null,
      record.exemptions_considered.length ? h("details", { class: "article" }, h("summary", {}, t("case.exemptions")), h("ul", { class: "plain" }, record.exemptions_considered.map((one) => h("li", {}, h("span", { class: "no", "aria-hidden": "true" }, "–"), one)))) : null,
      h("p", { class: "acts-inline" },
        h("button", { type: "button", class: "link", onclick: () => accept(index, "") }, t("check.remove")),
        h("button", { type: "button", class: "link", onclick: () => { area.focus(); area.setSelectionRange(mark.begin, mark.end); } }, t("check.rewriteSelf")))) : null);
}

function choose(index, { move = true } = {}) {
  if (index < 0 || index >= marks.length) return;
  if (index !== current) { current = index; paint(); drawList(); }
  list.querySelector(".current")?.scrollIntoView({ block: "nearest" });
  const mark = marks[index];
  const shown = behind.querySelector(".current");
  if (shown && (shown.offsetTop < area.scrollTop || shown.offsetTop > area.scrollTop + area.clientHeight - 40)) area.scrollTop = Math.max(0, shown.offsetTop - area.clientHeight / 2);
  if (move) area.setSelectionRange(mark.begin, mark.end);
}

/** What `words` would replace: a wording that is a sentence of its own takes the whole clause. */
function reach(mark, words) {
  if (words.length <= mark.end - mark.begin + 2) return [mark.begin, mark.end];
  const stop = /[，。！？；、,.!?;\n]/;
  let { begin, end } = mark;
  while (begin > 0 && !stop.test(area.value[begin - 1])) begin -= 1;
  while (end < area.value.length && !stop.test(area.value[end])) end += 1;
  return [begin, end];
}

/** Put `words` where the mark stands. The browser's own undo takes it back. */
function accept(index, words) {
  const mark = marks[index];
  if (!mark) return;
  const [begin, end] = words ? reach(mark, words) : [mark.begin, mark.end];
  area.focus();
  area.setSelectionRange(begin, end);
  const before = area.value;
  const done = words ? document.execCommand("insertText", false, words) : document.execCommand("delete");
  if (!done || area.value === before) {
    area.setRangeText(words, begin, end, "end");
    area.dispatchEvent(new Event("input"));
  }
  accepted.push({ from: mark.record.quote, to: words });
  check();
}

function example() {
  area.value = t("check.example.text");
  shift();
  keep();
  check();
  area.focus();
}

// --- files and products ----------------------------------------------------------------------

async function openScript(file) {
  if (!file) return;
  const form = new FormData();
  form.append("file", file);
  for (const one of chosen) form.append("products", one);
  const found = await tried(() => post("/check/file", form));
  scriptFile.value = "";
  if (!found) return;
  area.value = found.text;
  kept.name = file.name.replace(/\.\w+$/, "");
  kind.value = ["txt", "md", "srt", "vtt"].includes(found.kind) ? found.kind : "txt";
  checked = found.text;
  keep();
  check();
  toast(t("check.opened", { name: file.name, size: bytes(file.size) }));
}

async function take(format) {
  if (!area.value.trim()) { area.focus(); return; }
  const answer = await tried(() => post("/check/download", { text: area.value, kind: kind.value, format, name: kept.name || t("check.filename"), products: [...chosen] }, { raw: true }));
  if (answer) saveBlob(await answer.blob(), `${kept.name || t("check.filename")}.${format}`);
}

function drawPicker() {
  const names = passports.filter((one) => chosen.has(one.id)).map((one) => one.name);
  picker.querySelector("summary").textContent = names.length ? `${t("check.products")}：${names.join("、")}` : t("check.products");
  picker.querySelector("div")?.remove();
  picker.append(h("div", { class: "pop" }, passports.length ? passports.map((one) => h("label", { class: "tickbox" },
    h("input", { type: "checkbox", checked: chosen.has(one.id), onchange: (event) => {
      if (event.target.checked) chosen.add(one.id); else chosen.delete(one.id);
      const names_ = passports.filter((other) => chosen.has(other.id)).map((other) => other.name);
      picker.querySelector("summary").textContent = names_.length ? `${t("check.products")}：${names_.join("、")}` : t("check.products");
      keep();
      check();
    } }), h("span", {}, one.name, " ", muted(t(`product.${one.category}`))))) : muted(t("check.noProducts"))));
}
document.addEventListener("click", (event) => { if (!picker.contains(event.target)) picker.open = false; });

// --- keys -------------------------------------------------------------------------------------

bind("check", "check.next", "Alt+ArrowDown", () => choose((current + 1) % marks.length), { fields: true });
bind("check", "check.previous", "Alt+ArrowUp", () => choose((current + marks.length - 1) % marks.length), { fields: true });
bind("check", "check.accept", "Alt+Enter", () => { const mark = marks[current]; if (mark?.rewrites[0]) accept(current, mark.rewrites[0]); else if (mark) toast(t("check.noRewrite")); }, { fields: true });
bind("check", "check.remove", "Alt+Backspace", () => accept(current, ""), { fields: true });
bind("check", "check.edit", "e", () => area.focus());

drawList();
tell({ took_ms: 0 });
area.focus();
if (may("passports:read")) tried(async () => {
  passports = await get("/passports");
  chosen = new Set([...chosen].filter((one) => passports.some((other) => other.id === one)));
  drawPicker();
  check();
});
else { picker.hidden = true; check(); }
uploads.start().catch(fail);
