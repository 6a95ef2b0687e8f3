// Figures: what is found where, how right the rules are, how long people and machines take.

import { empty, get, h, loadMeta, main, may, muted, option, percent, query, store, t, tried, word, words } from "./core.js";
import { bindCommon } from "./keys.js";
import { bars, days, interval } from "./charts.js";

await loadMeta();
bindCommon();

const span = h("select", { "aria-label": t("figures.span"), onchange: load }, [7, 30, 90, 365].map((one) => option(one, t("figures.days", { count: one }), one === store.get("span", 30))));
const grid = h("div", { class: "figures-grid" });
main.append(h("div", { class: "page wide" }, h("div", { class: "bar wall-bar" }, h("h1", {}, t("nav.dashboards")), h("ul", { class: "legend" }, ["yes", "no", "open"].map((one) => h("li", {}, h("i", { class: `lg-${one}` }), t(`figures.${one}`)))), h("span", { class: "push" }), span,
  may("verdicts:export") ? h("a", { class: "button", href: "/api/v1/verdicts", id: "verdicts" }, t("figures.verdicts")) : null), grid));

// How many of twelve columns each takes.
const WIDTHS = { over_time: 12, category: 3, room: 3, host: 3, merchant: 3, rule_precision: 12, time_to_decision: 6, latency: 6 };
const LEVELS = ["critical", "high", "medium", "low"];
const seconds = (value) => (value < 90 ? `${value.toFixed(value < 10 ? 1 : 0)} s` : value < 5400 ? `${(value / 60).toFixed(0)} min` : value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${(value / 86400).toFixed(1)} d`);
const millis = (value) => (value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`);
let titles = new Map();

/** Rows of verdict bars: confirmed, dismissed, and those nobody decided yet. */
const verdictBars = (rows, label) => bars(rows.slice(0, 12).map(([name, total, yes, no]) => ({
  label: label(name), title: t("figures.split", { total, yes, no }), value: String(total),
  parts: [{ value: yes, kind: "yes" }, { value: no, kind: "no" }, { value: total - yes - no, kind: "open" }],
})));

const PICTURES = {
  over_time: (rows) => {
    const sums = new Map();
    for (const [, category, count] of rows) sums.set(category, (sums.get(category) ?? 0) + count);
    const top = [...sums].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([name]) => name);
    const series = new Map(top.map((name) => [name, new Map()]));
    for (const [day, category, count] of rows) {
      const name = series.has(category) ? category : "…";
      if (!series.has(name)) series.set(name, new Map());
      series.get(name).set(day, (series.get(name).get(day) ?? 0) + count);
    }
    return days(series, (name) => (name === "…" ? t("figures.rest") : word("categories", name)));
  },
  category: (rows) => verdictBars(rows, (name) => word("categories", name)),
  room: (rows) => verdictBars(rows, (name) => titles.get(name) ?? name),
  host: (rows) => verdictBars(rows, (name) => name || "–"),
  merchant: (rows) => verdictBars(rows, (name) => name || "–"),
  rule_precision: (rows) => h("div", { class: "table-scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["rule", "total", "confirmed", "dismissed", "precision", ""].map((one) => h("th", { class: ["rule", ""].includes(one) ? "" : "r" }, one ? t(`column.${one}`) : "")))),
    h("tbody", {}, rows.slice(0, 20).map(([rule, title, total, yes, no, precision, low, high]) => h("tr", {},
      h("td", {}, title, " ", muted(h("code", {}, rule))), h("td", { class: "r" }, total), h("td", { class: "r" }, yes), h("td", { class: "r" }, no),
      h("td", { class: "r" }, precision === null ? "–" : percent(precision)), h("td", { class: "wide-cell" }, interval(precision, low, high))))))),
  dismiss_reasons: (rows) => {
    const sums = new Map();
    for (const [, reason, count] of rows) sums.set(reason, (sums.get(reason) ?? 0) + count);
    return bars([...sums].sort((a, b) => b[1] - a[1]).map(([reason, count]) => ({ label: word("reasons", reason), parts: [{ value: count, kind: "no" }] })));
  },
  agreement: (rows) => bars(rows.filter((row) => row[1]).map(([category, twice, agreed, share]) => ({ label: word("categories", category), title: `${agreed} / ${twice}`, value: percent(share), parts: [{ value: share, kind: "fact" }] })), { max: 1 }),
  reviewers: (rows) => bars(rows.map(([name, count, yes, no, undone]) => ({ label: name, title: t("figures.undone", { count: undone }), value: String(count), parts: [{ value: yes, kind: "yes" }, { value: no, kind: "no" }, { value: Math.max(0, count - yes - no), kind: "open" }] }))),
  time_to_decision: (rows) => bars([...rows].sort((a, b) => LEVELS.indexOf(a[0]) - LEVELS.indexOf(b[0])).map(([level, decided, p50, , p95]) => ({ label: `${word("severities", level)} (${decided})`, value: `p50 ${seconds(p50)} · p95 ${seconds(p95)}`, parts: [{ value: p50, kind: "fact" }, { value: Math.max(0, p95 - p50), kind: "open" }] }))),
  latency: (rows) => bars(rows.map(([room, count, p50, p95]) => ({ label: `${titles.get(room) ?? room} (${count})`, value: `p50 ${millis(p50)} · p95 ${millis(p95)}`, parts: [{ value: p50, kind: "fact" }, { value: Math.max(0, p95 - p50), kind: "open" }] }))),
};

async function load() {
  store.set("span", Number(span.value));
  const since = new Date(Date.now() - Number(span.value) * 86400000).toISOString();
  const names = words("dashboards").map(([id]) => id).sort((a, b) => (b === "over_time") - (a === "over_time"));
  grid.replaceChildren(...names.map((name) => h("section", { class: `figure w-${WIDTHS[name] ?? 4}`, id: `figure-${name}`, "aria-busy": true })));
  await tried(async () => { titles = new Map((await get("/rooms")).map((one) => [one.id, one.title || one.id])); });
  await Promise.all(names.map((name) => tried(async () => {
    const table = await get(`/dashboards/${name}${query({ since })}`);
    const box = document.getElementById(`figure-${name}`);
    box.removeAttribute("aria-busy");
    box.replaceChildren(
      h("header", {}, h("h2", {}, word("dashboards", name)), h("a", { class: "link", href: `/api/v1/dashboards/${name}${query({ since, format: "csv" })}`, download: `${name}.csv` }, "CSV")),
      table.rows.length ? (PICTURES[name] ?? plain)(table.rows, table.columns) : empty(t("figures.none"), muted(t(`figures.none.${["agreement", "dismiss_reasons", "reviewers", "time_to_decision"].includes(name) ? "decided" : "found"}`))));
  })));
}

const plain = (rows, columns) => h("div", { class: "table-scroll" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((one) => h("th", {}, one)))), h("tbody", {}, rows.slice(0, 20).map((row) => h("tr", {}, row.map((one) => h("td", {}, one ?? "–")))))));

await load();
