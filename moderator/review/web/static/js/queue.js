// The queue: what waits for a decision, riskiest first.

import {
  ago, ask, dialog, disposition, empty, get, h, loadMeta, main, may, me, muted, option, percent,
  api, post, query, severity, shortStamp, stamp, statusTag, t, tabStore, debounced, toast, tried, word, words, clock, fail,
} from "./core.js";
import { bind, bindCommon, hint, keysOf } from "./keys.js";
import { listen } from "./events.js";
import { reasonOf } from "./reasons.js";
import { VirtualList } from "./virtual.js";

const LISTS = ["category", "severity", "disposition", "room", "host", "merchant", "rule", "channel"];
const NAMES = { category: "categories", severity: "severities", disposition: "dispositions" };
const CHANNELS = ["speech", "screen", "code", "script", "stream"];
const WORKING = ["open", "second_review", "needs_proof", "escalated", "appealed"];

await loadMeta();
bindCommon();

// --- what is asked for, kept in the address --------------------------------------------

const wanted = fromAddress();

function fromAddress() {
  const given = new URLSearchParams(location.search);
  const out = { sort: given.get("sort") || "risk", q: given.get("q") || "" };
  for (const name of ["status", ...LISTS]) out[name] = given.getAll(name);
  for (const name of ["assignee", "min_confidence", "max_confidence", "since", "until", "exported"]) out[name] = given.get(name) || "";
  if (!given.has("status")) out.status = ["open"];
  return out;
}

/** `all` in the address stands for every status; the API is asked for none in particular. */
function asked() {
  return { ...wanted, status: wanted.status.filter((one) => one !== "all") };
}

function forFilter() {
  const { sort, ...filter } = asked();
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => (Array.isArray(value) ? value.length : value !== "")));
}

function remember() {
  history.replaceState(null, "", `/queue${query(wanted)}`);
  tabStore.set("queue", { filter: forFilter(), sort: wanted.sort, address: location.pathname + location.search });
}

// --- the page ---------------------------------------------------------------------------

const people = new Map([[me.id, me.name]]);
const rooms = new Map();
const list = new VirtualList({
  draw: row, more: loadMore, label: t("nav.queue"),
  rowHeight: () => (innerWidth < 760 ? 92 : 58),
});
const tabs = h("div", { class: "tabs", role: "group", "aria-label": t("queue.status") });
const search = h("input", { type: "search", class: "search", value: wanted.q, placeholder: t("queue.search"), "aria-label": t("queue.search"), maxLength: 500 });
const sort = h("select", { "aria-label": t("queue.sort") }, ["risk", "newest", "oldest", "confidence"].map((one) => option(one, t(`queue.sort.${one}`), one === wanted.sort)));
const fresh = h("button", { type: "button", class: "fresh", hidden: true, onclick: () => reload() });
const chips = h("div", { class: "chips" });
const notice = h("div", { class: "queue-notice" });
const filters = h("aside", { class: "filters", id: "filters", "aria-label": t("queue.filters") });
const filterButton = h("button", { type: "button", class: "only-narrow", "aria-controls": "filters", "aria-expanded": false, onclick: toggleFilters }, t("queue.filters"));
const take = may("violations:decide")
  ? h("button", { type: "button", class: "primary", onclick: takeNext }, t("queue.take"), " ", hint("queue.take") || h("kbd", {}, "n")) : null;

main.classList.add("queue");
main.append(
  h("h1", { class: "sr" }, t("nav.queue")),
  filters,
  h("section", { class: "queue-main" },
    h("div", { class: "bar" }, search, filterButton, h("label", { class: "inline" }, h("span", { class: "sr" }, t("queue.sort")), sort), h("span", { class: "push" }), fresh, take),
    tabs, chips,
    h("div", { class: "row-head", "aria-hidden": "true" }, ["", t("queue.words"), t("queue.where"), t("queue.confidence"), t("queue.judged"), t("queue.time"), t("queue.state")].map((one) => h("span", {}, one))),
    notice, list.element));

search.addEventListener("input", debounced(() => { wanted.q = search.value.trim(); reload(); }, 250));
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); list.activate(0); }
});
sort.addEventListener("change", () => { wanted.sort = sort.value; reload(); });

// --- rows -------------------------------------------------------------------------------

let cursor = null;
let loading = null;
let generation = 0;
/** The row to stand on as soon as it is in the list, whichever reload brings it. */
let sought = null;

async function reload({ quiet = false } = {}) {
  generation += 1;
  const mine = generation;
  remember();
  drawChips();
  arrived.clear();
  fresh.hidden = true;
  if (!quiet) main.setAttribute("aria-busy", "true");
  try {
    const [page, counts] = await Promise.all([
      get(`/violations${query({ ...asked(), limit: 100 })}`),
      get(`/violations/counts${query({ ...asked(), status: [], sort: null })}`),
    ]);
    if (mine !== generation) return;
    cursor = page.next_cursor;
    const before = list.active;
    const was = list.items[before]?.id;
    list.set(page.items);
    if (quiet && was) {
      const still = page.items.findIndex((one) => one.id === was);
      list.active = still < 0 ? Math.min(before, page.items.length - 1) : still;
    } else { list.active = page.items.length ? 0 : -1; list.element.scrollTop = 0; }
    list.refresh();
    const back = page.items.findIndex((one) => one.id === sought);
    if (back >= 0) { sought = null; list.activate(back); }
    drawTabs(counts);
    drawNotice(counts);
  } catch (error) {
    fail(error);
  } finally {
    main.removeAttribute("aria-busy");
  }
}

async function loadMore() {
  if (!cursor || loading) return;
  const mine = generation;
  loading = get(`/violations${query({ ...asked(), limit: 200, cursor })}`);
  try {
    const page = await loading;
    if (mine !== generation) return;
    cursor = page.next_cursor;
    const there = new Set(list.items.map((one) => one.id));
    list.items.push(...page.items.filter((one) => !there.has(one.id)));
  } catch (error) {
    fail(error);
  } finally {
    loading = null;
    if (mine === generation) list.refresh();
  }
}

function row(item, index) {
  const locked = lockOf(item);
  return h("a", {
    href: `/violations/${item.id}`, tabIndex: index === Math.max(list.active, 0) ? 0 : -1, class: `entry ${locked && item.claimed_by !== me.id ? "locked" : ""}`,
    onclick: (event) => { if (!event.ctrlKey && !event.metaKey && event.button === 0) { event.preventDefault(); open(index); } },
    onfocus: () => { if (list.active !== index) list.activate(index, false); },
  },
  severity(item.severity),
  h("span", { class: "what" },
    h("b", { class: "quote" }, item.quote || t("case.absent")),
    h("span", { class: "sub" }, word("categories", item.category), " · ", item.rule_title, item.occurrences > 1 ? ` · ×${item.occurrences}` : "")),
  h("span", { class: "where" },
    h("span", {}, rooms.get(item.room_id) ?? item.room_id),
    h("span", { class: "sub" }, [item.host, `${t(`channel.${item.channel}`)} ${clock(item.start)}`].filter(Boolean).join(" · "))),
  h("span", { class: "conf", title: `${t("queue.risk")} ${percent(item.risk)}` }, h("span", { class: "bar-cell", vars: { "--part": item.confidence } }), percent(item.confidence)),
  disposition(item.disposition),
  h("span", { class: "when", title: stamp(item.at) }, ago(item.at), h("span", { class: "sub" }, shortStamp(item.at))),
  h("span", { class: "state" },
    locked ? h("span", { class: `lock ${item.claimed_by === me.id ? "mine" : ""}`, title: t("queue.lockedUntil", { time: stamp(item.claimed_until) }) }, lockIcon(), locked) : statusTag(item.status),
    h("span", { class: "sub" },
      item.assignee_id ? `→ ${people.get(item.assignee_id) ?? t("queue.colleague")}` : "",
      item.exported_at ? h("span", { class: "exported", title: stamp(item.exported_at) }, t("queue.exported")) : null)));
}

function lockIcon() { return h("span", { class: "lock-icon", "aria-hidden": "true" }); }

function lockOf(item) {
  if (!item.claimed_by || new Date(item.claimed_until) < new Date()) return "";
  return item.claimed_by === me.id ? t("queue.mine") : t("queue.by", { name: people.get(item.claimed_by) ?? t("queue.colleague") });
}

function open(index) {
  const item = list.items[index];
  if (!item) return;
  tabStore.set("queue.ids", list.items.slice(Math.max(0, index - 200), index + 400).map((one) => one.id));
  location.assign(`/violations/${item.id}`);
}

async function takeNext() {
  const answer = await tried(() => post("/violations/next", { filter: { ...forFilter(), status: forFilter().status?.filter((one) => WORKING.includes(one)) ?? [] }, sort: wanted.sort }));
  if (!answer) return;
  if (!answer.violation) { toast(t("queue.none")); return; }
  tabStore.set("queue.ids", list.items.slice(0, 600).map((one) => one.id));
  location.assign(`/violations/${answer.violation.id}`);
}

// --- deciding without opening -----------------------------------------------------------

let busy = false;

/** Decide on the active row, where its words alone are enough; `u` takes it back. */
async function judge(action) {
  const item = list.items[list.active];
  if (!item || busy) return;
  const other = item.claimed_by !== me.id && lockOf(item);
  if (other) { toast(other, { kind: "bad" }); return; }
  busy = true;
  try {
    const because = action === "dismiss" ? await reasonOf("", `${t("case.dismissWhy")} “${(item.quote || item.rule_title).slice(0, 20)}”`) : { reason: "", comment: "" };
    if (!because) return;
    const made = await post(`/violations/${item.id}/decisions`, { action, ...because, version: item.version });
    tabStore.set("undo", item.id);
    const then = made.violation.status === "second_review" ? t("case.toSecond") : "";
    toast([t(`did.${action}`), `“${(item.quote || item.rule_title).slice(0, 24)}”`, then].filter(Boolean).join(" "), { kind: "good", action: undo, label: `${t("act.undo")} (u)` });
    changed(made.violation);
    list.activate(list.active);
  } catch (error) {
    fail(error);
    if (error.code === "LM-911" || error.code === "LM-912") reload({ quiet: true });
  } finally {
    busy = false;
  }
}

async function undo() {
  const last = tabStore.get("undo", "");
  if (!last) { toast(t("case.nothingToUndo")); return; }
  const row_ = await tried(() => post(`/violations/${last}/undo`));
  if (!row_) return;
  tabStore.set("undo", "");
  toast(t("case.undid"), { kind: "good" });
  sought = last;
  await reload({ quiet: true });
}

/** Take the lock of the active row, or give it back. */
async function claim() {
  const item = list.items[list.active];
  if (!item) return;
  const mine = item.claimed_by === me.id && new Date(item.claimed_until) > new Date();
  const row_ = await tried(() => post(`/violations/${item.id}/${mine ? "release" : "claim"}`));
  if (row_) { changed(row_); list.activate(list.active); }
}

// --- tabs, chips, filters -----------------------------------------------------------------

function drawTabs(counts) {
  const names = [...words("statuses").map(([id]) => id), "all"];
  tabs.replaceChildren(...names.map((id) => {
    const on = wanted.status.length === 1 && wanted.status[0] === id;
    return h("button", { type: "button", class: `tab st-${id}`, "aria-pressed": on, onclick: () => { wanted.status = [id]; reload(); } },
      id === "all" ? t("queue.all") : word("statuses", id), h("b", {}, id === "all" ? counts.total : counts.counts[id] ?? 0));
  }));
}

async function drawNotice(counts) {
  if (list.items.length) { notice.replaceChildren(); return; }
  if (counts.total === 0 && !chips.childElementCount) {
    notice.replaceChildren(empty(t("queue.first"), h("p", {}, t("queue.first.how")),
      may("users:manage") ? h("button", { type: "button", class: "primary", id: "load-demo", onclick: loadDemo }, t("queue.demo")) : null));
  } else {
    notice.replaceChildren(empty(chips.childElementCount ? t("queue.nothing") : t("queue.done"),
      chips.childElementCount ? h("button", { type: "button", onclick: clearFilters }, t("queue.clear")) : null));
  }
}

async function loadDemo(event) {
  event.currentTarget.disabled = true;
  event.currentTarget.textContent = t("queue.demo.loading");
  const began = await tried(() => post("/demo"));
  for (let tries = 0; began && tries < 120; tries += 1) {
    await new Promise((done) => setTimeout(done, 700));
    const now = await tried(() => get("/demo"));
    if (!now || now.state === "failed") { toast(t("queue.demo.failed"), { kind: "bad" }); break; }
    if (now.state === "loaded") break;
  }
  await Promise.all([reload(), loadValues()]);
}

function labelOf(name, value) {
  if (NAMES[name]) return word(NAMES[name], value);
  if (name === "channel") return t(`channel.${value}`);
  if (name === "room") return rooms.get(value) ?? value;
  return value;
}

function drawChips() {
  const out = [];
  const chip = (label, drop) => out.push(h("button", { type: "button", class: "chip", title: t("queue.drop"), onclick: () => { drop(); drawFilters(); reload(); } }, label, h("span", { "aria-hidden": "true" }, "×")));
  for (const name of LISTS) for (const value of wanted[name]) {
    chip(`${t(`queue.${name}`)}：${labelOf(name, value)}`, () => { wanted[name] = wanted[name].filter((one) => one !== value); });
  }
  if (wanted.assignee) chip(`${t("queue.assignee")}：${{ me: t("queue.assignee.me"), none: t("queue.assignee.none") }[wanted.assignee] ?? people.get(wanted.assignee) ?? wanted.assignee}`, () => { wanted.assignee = ""; });
  if (wanted.min_confidence) chip(`${t("queue.confidence")} ≥ ${percent(wanted.min_confidence)}`, () => { wanted.min_confidence = ""; });
  if (wanted.since) chip(`${t("queue.since")} ${shortStamp(wanted.since)}`, () => { wanted.since = ""; });
  if (wanted.until) chip(`${t("queue.until")} ${shortStamp(wanted.until)}`, () => { wanted.until = ""; });
  if (wanted.exported) chip(wanted.exported === "true" ? t("queue.exported") : t("queue.notExported"), () => { wanted.exported = ""; });
  if (wanted.q) chip(`“${wanted.q}”`, () => { wanted.q = ""; search.value = ""; });
  chips.replaceChildren(...out);
  if (out.length) chips.append(h("button", { type: "button", class: "link", onclick: saveFilter }, t("queue.save")), h("button", { type: "button", class: "link", onclick: clearFilters }, t("queue.clear")));
}

function clearFilters() {
  for (const name of LISTS) wanted[name] = [];
  for (const name of ["assignee", "min_confidence", "max_confidence", "since", "until", "exported", "q"]) wanted[name] = "";
  search.value = "";
  drawFilters();
  reload();
}

let saved = [];
let values = { room: [], host: [], merchant: [], rule: [] };

async function loadValues() {
  let seen;
  [values, saved, seen] = await Promise.all([get("/violations/values"), get("/filters"), may("rooms:read") ? get("/rooms") : []]);
  for (const one of seen) rooms.set(one.id, one.title || one.id);
  list.refresh();
  drawFilters();
}

function checks(name, options) {
  return h("fieldset", {}, h("legend", {}, t(`queue.${name}`)),
    options.map(([id, label]) => h("label", { class: "tickbox" },
      h("input", { type: "checkbox", checked: wanted[name].includes(id), onchange: (event) => {
        wanted[name] = event.target.checked ? [...wanted[name], id] : wanted[name].filter((one) => one !== id);
        reload();
      } }), h("span", {}, label))));
}

function pick(name, options) {
  const select = h("select", { "aria-label": t(`queue.${name}`), onchange: () => {
    if (select.value && !wanted[name].includes(select.value)) wanted[name] = [...wanted[name], select.value];
    select.value = "";
    reload();
  } }, option("", t("queue.any"), true), options.map(([id, label]) => option(id, label)));
  return h("label", { class: "field small" }, h("span", {}, t(`queue.${name}`)), select);
}

function drawFilters() {
  const same = (list_) => list_.map((one) => [one, one]);
  const dates = (name) => h("label", { class: "field small" }, h("span", {}, t(`queue.${name}`)),
    h("input", { type: "date", value: wanted[name] ? localDay(wanted[name]) : "", onchange: (event) => {
      const day = event.target.valueAsNumber ? new Date(`${event.target.value}T00:00:00`) : null;
      if (day && name === "until") day.setDate(day.getDate() + 1);
      wanted[name] = day ? day.toISOString() : "";
      reload();
    } }));
  const assignee = h("select", { onchange: (event) => { wanted.assignee = event.target.value; reload(); } },
    option("", t("queue.any"), !wanted.assignee), option("me", t("queue.assignee.me"), wanted.assignee === "me"), option("none", t("queue.assignee.none"), wanted.assignee === "none"),
    [...people].filter(([id]) => id !== me.id).map(([id, name]) => option(id, name, wanted.assignee === id)));
  const level = h("output", {}, percent(wanted.min_confidence || 0));
  const confidence = h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: wanted.min_confidence || 0,
    oninput: (event) => { level.textContent = percent(event.target.value); },
    onchange: (event) => { wanted.min_confidence = Number(event.target.value) ? event.target.value : ""; reload(); } });
  filters.replaceChildren(...[
    h("div", { class: "saved" }, h("h2", {}, t("queue.saved")),
      saved.length ? h("ul", {}, saved.map((one) => h("li", {},
        h("button", { type: "button", class: "link", onclick: () => useFilter(one) }, one.name),
        h("button", { type: "button", class: "ghost tiny", "aria-label": `${t("delete")}: ${one.name}`, onclick: () => dropFilter(one) }, "×"))))
        : h("p", { class: "muted" }, t("queue.saved.none"))),
    checks("severity", words("severities")),
    checks("disposition", words("dispositions")),
    pick("category", words("categories")),
    pick("room", values.room.map((one) => [one, rooms.get(one) ?? one])), pick("host", same(values.host)), pick("merchant", same(values.merchant)), pick("rule", same(values.rule)),
    pick("channel", CHANNELS.map((one) => [one, t(`channel.${one}`)])),
    h("label", { class: "field small" }, h("span", {}, t("queue.assignee")), assignee),
    h("label", { class: "field small" }, h("span", {}, `${t("queue.confidence")} ≥ `, level), confidence),
    h("div", { class: "two" }, dates("since"), dates("until")),
    h("label", { class: "field small" }, h("span", {}, t("queue.export")), h("select", { onchange: (event) => { wanted.exported = event.target.value; reload(); } },
      option("", t("queue.any"), !wanted.exported), option("true", t("queue.exported"), wanted.exported === "true"), option("false", t("queue.notExported"), wanted.exported === "false"))),
    h("button", { type: "button", class: "only-narrow primary", onclick: toggleFilters }, t("close")),
  ]);
}

function localDay(text) {
  const day = new Date(text);
  return `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
}

function toggleFilters() {
  const open_ = filters.classList.toggle("open");
  filterButton.setAttribute("aria-expanded", open_);
  if (open_) filters.querySelector("input, select, button")?.focus();
}

async function saveFilter() {
  const name = await ask(t("queue.save"), { label: t("queue.save.name"), rows: 1 });
  if (!name) return;
  const made = await tried(() => post("/filters", { name, query: forFilter() }));
  if (made) { saved.push(made); drawFilters(); toast(t("queue.save.done", { name })); }
}

function useFilter(one) {
  clearQuietly();
  for (const [name, value] of Object.entries(one.query)) wanted[name] = typeof value === "boolean" || typeof value === "number" ? String(value) : value;
  search.value = wanted.q;
  drawFilters();
  reload();
}

function clearQuietly() {
  for (const name of ["status", ...LISTS]) wanted[name] = [];
  for (const name of ["assignee", "min_confidence", "max_confidence", "since", "until", "exported", "q"]) wanted[name] = "";
}

async function dropFilter(one) {
  if (await tried(() => api("DELETE", `/filters/${one.id}`))) {
    saved = saved.filter((other) => other.id !== one.id);
    drawFilters();
  }
}

// --- what happens elsewhere -----------------------------------------------------------------

const arrived = new Set();

const recount = debounced(async () => {
  const counts = await tried(() => get(`/violations/counts${query({ ...asked(), status: [], sort: null })}`));
  if (counts) drawTabs(counts);
}, 400);

/** New ones are put in at once while the top is in view; else a button says how many wait. */
const settle = debounced(() => {
  if (list.element.scrollTop < 20) reload({ quiet: true });
  else { fresh.textContent = t("queue.fresh", { count: arrived.size }); fresh.hidden = arrived.size === 0; recount(); }
}, 400);

/**
 * A row has moved on: it is drawn again, or leaves the list it no longer belongs to.
 * What is told late, of a version that the list is past, changes nothing.
 */
function changed(data) {
  const index = list.items.findIndex((one) => one.id === data.id);
  recount();
  if (index < 0) return;
  const item = list.items[index];
  if (data.version < item.version) return;
  Object.assign(item, { status: data.status, version: data.version, claimed_by: data.claimed_by, claimed_until: data.claimed_until, assignee_id: data.assignee_id });
  const statuses = asked().status;
  if (statuses.length && !statuses.includes(item.status)) {
    const focused = list.element.contains(document.activeElement);
    list.items.splice(index, 1);
    if (index < list.active) list.active -= 1;
    list.refresh();
    if (focused) list.activate(list.active);
    if (!list.items.length) reload({ quiet: true });
  } else list.redraw(index);
}

listen({
  "violation.new": (data) => { arrived.add(data.id); settle(); },
  "violation.grown": (data) => {
    const index = list.items.findIndex((one) => one.id === data.id);
    if (index >= 0) { Object.assign(list.items[index], { risk: data.risk, severity: data.severity, quote: data.quote }); list.redraw(index); }
  },
  "violation.updated": (data) => {
    changed(data);
  },
}, { away: () => reload({ quiet: true }) });

// --- keys ---------------------------------------------------------------------------------

bind("queue", "queue.down", ["j", "ArrowDown"], () => list.activate(list.active + 1));
bind("queue", "queue.up", ["k", "ArrowUp"], () => list.activate(list.active - 1));
bind("queue", "queue.top", "Home", () => list.activate(0));
bind("queue", "queue.bottom", "End", () => list.activate(list.items.length - 1));
bind("queue", "queue.open", ["Enter", "o"], () => open(list.active));
if (take) bind("queue", "queue.take", "n", takeNext);
if (take) {
  for (const [action, key] of [["confirm", "y"], ["dismiss", "x"], ["needs_proof", "p"], ["escalate", "e"]]) bind("decide", `case.${action}`, key, () => judge(action));
  bind("decide", "case.undo", "u", undo);
  bind("decide", "queue.claim", "c", claim);
}
bind("queue", "queue.search", "/", () => { search.focus(); search.select(); });
bind("queue", "queue.filter", "f", () => { if (innerWidth < 760) toggleFilters(); else filters.querySelector("input, select, button")?.focus(); });
bind("queue", "queue.clear", "Shift+x", clearFilters);
bind("queue", "queue.onlyMine", "m", () => { wanted.assignee = wanted.assignee === "me" ? "" : "me"; drawFilters(); reload(); });
bind("queue", "queue.save", "Shift+s", saveFilter);
bind("queue", "queue.reload", "r", () => reload());
words("statuses").forEach(([id], index) => bind("statuses", `queue.status.${id}`, String(index + 1), () => { wanted.status = [id]; reload(); }));

drawFilters();
if (may("violations:decide")) {
  tried(async () => {
    for (const one of await get("/colleagues")) people.set(one.id, one.display_name || one.username);
    list.refresh();
  });
}
await Promise.all([reload(), tried(loadValues)]);
if (document.activeElement === document.body) list.activate(0);
setInterval(() => list.refresh(), 60000);
