// The audit log, and whether its chain holds.

import { get, h, main, muted, query, stamp, t, tried, loadMeta, debounced } from "./core.js";
import { bindCommon } from "./keys.js";

await loadMeta();
bindCommon();

const result = h("p", { class: "chain", role: "status" });
const filter = { object_id: new URLSearchParams(location.search).get("object_id") ?? "", action: "" };
const body = h("tbody");
const more = h("button", { type: "button", hidden: true, onclick: () => load(true) }, t("audit.more"));
const input = (name) => h("input", { value: filter[name], placeholder: t(`audit.${name}`), "aria-label": t(`audit.${name}`), oninput: debounced((event) => { filter[name] = event.target.value.trim(); load(); }, 300) });
main.append(h("div", { class: "page wide" },
  h("div", { class: "bar wall-bar" }, h("h1", {}, t("nav.audit")), h("span", { class: "push" }), input("action"), input("object_id"), h("button", { type: "button", class: "primary", id: "verify", onclick: verify }, t("audit.verify"))),
  result,
  h("div", { class: "table-scroll" }, h("table", { class: "audit" }, h("thead", {}, h("tr", {}, ["seq", "at", "actor", "did", "object", "detail", "hash"].map((one) => h("th", {}, t(`audit.${one}`))))), body)), more));

let cursor = null;
async function load(on = false) {
  const page = await tried(() => get(`/audit${query({ ...filter, limit: 100, cursor: on ? cursor : null })}`));
  if (!page) return;
  cursor = page.next_cursor;
  more.hidden = !cursor;
  const rows = page.items.map((one) => h("tr", {},
    h("td", { class: "r num" }, one.seq), h("td", { class: "num nowrap" }, stamp(one.at)), h("td", {}, one.actor, one.address ? muted(` ${one.address}`) : null), h("td", { class: "nowrap" }, h("code", {}, one.action)),
    h("td", {}, one.object_type === "violation" ? h("a", { class: "link mono", href: `/violations/${one.object_id}` }, one.object_id.slice(-8)) : h("span", { class: "mono" }, `${one.object_type} ${one.object_id.slice(-8)}`)),
    h("td", { class: "detail" }, Object.entries(one.detail).map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · ")),
    h("td", {}, h("code", { class: "hash", title: one.hash }, one.hash.slice(0, 10)))));
  if (on) body.append(...rows); else body.replaceChildren(...rows);
}

async function verify() {
  result.textContent = t("audit.verifying");
  const found = await tried(() => get("/audit/verify"));
  if (!found) { result.textContent = ""; return; }
  result.className = `chain ${found.sound ? "good" : "bad"}`;
  result.textContent = found.sound ? t("audit.sound", { count: found.entries, head: found.head.slice(0, 16) }) : t("audit.broken", { seq: found.first_bad, reason: found.reason });
}

await load();
