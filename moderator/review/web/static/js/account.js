// One's own account: sessions, tokens, keys.

import { api, dialog, get, h, loadMeta, main, me, muted, stamp, t, time, toast, tried, word, words, post } from "./core.js";
import { bindCommon, showKeys } from "./keys.js";

const meta = await loadMeta();
bindCommon();

const sessions = h("tbody");
const tokens = h("tbody");
main.append(h("div", { class: "page" },
  h("div", { class: "bar wall-bar" }, h("h1", {}, me.name), h("span", { class: "tag" }, word("roles", me.role)), h("span", { class: "push" }),
    h("button", { type: "button", onclick: showKeys }, t("keys.title")), h("a", { class: "button", href: "/password" }, t("password.change")), h("button", { type: "button", id: "logout", onclick: leave }, t("account.logout"))),
  h("div", { class: "bar section-bar" }, h("h2", {}, t("account.tokens")), h("span", { class: "push" }), h("button", { type: "button", id: "new-token", onclick: create }, t("account.token.new"))),
  h("div", { class: "table-scroll" }, h("table", {}, head("name", "scopes", "created", "used", ""), tokens)),
  h("div", { class: "bar section-bar" }, h("h2", {}, t("account.sessions"))),
  h("div", { class: "table-scroll" }, h("table", {}, head("where", "browser", "seen", "expires", ""), sessions))));

function head(...names) { return h("thead", {}, h("tr", {}, names.map((one) => h("th", {}, one ? t(`account.${one}`) : "")))); }

async function load() {
  const [open, keys] = await Promise.all([get("/auth/sessions"), get("/auth/tokens")]);
  sessions.replaceChildren(...open.map((one) => h("tr", {}, h("td", {}, one.address), h("td", { title: one.agent }, browserOf(one.agent)), h("td", {}, time(one.seen_at)), h("td", {}, time(one.expires_at)),
    h("td", {}, one.current ? h("span", { class: "tag st-confirmed" }, t("account.this")) : h("button", { type: "button", class: "link", onclick: () => end(`/auth/sessions/${one.id}`) }, t("account.end"))))));
  tokens.replaceChildren(...(keys.length ? keys.map((one) => h("tr", {}, h("td", {}, h("b", {}, one.name), " ", h("code", {}, `${one.hint}…`)), h("td", {}, h("code", {}, one.scopes.join(" "))), h("td", {}, time(one.created_at)), h("td", {}, one.used_at ? time(one.used_at) : "–"),
    h("td", {}, h("button", { type: "button", class: "link", onclick: () => end(`/auth/tokens/${one.id}`) }, t("account.revoke"))))) : [h("tr", {}, h("td", { colSpan: 5 }, muted(t("account.token.none"))))]));
}

/** `Chrome · Windows` of what a browser says it is. */
function browserOf(agent) {
  const pick = (pairs) => pairs.find(([sign]) => sign.test(agent))?.[1];
  const name = pick([[/Edg/, "Edge"], [/Firefox/, "Firefox"], [/Chrome|Chromium/, "Chrome"], [/Safari/, "Safari"]]);
  const system = pick([[/Windows/, "Windows"], [/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Mac OS/, "macOS"], [/Linux/, "Linux"]]);
  return [name, system].filter(Boolean).join(" · ") || agent.slice(0, 60) || "–";
}

async function end(path) { if (await tried(() => api("DELETE", path))) load(); }
async function leave() { if (await tried(() => post("/auth/logout"))) location.assign("/login"); }

async function create() {
  const mine = meta.scopes.filter((one) => me.permissions.has(one));
  const made = await dialog(t("account.token.new"), (close) => {
    const name = h("input", { id: "token-name", required: true, maxLength: 100, "data-first": "" });
    const until = h("input", { id: "token-until", type: "date" });
    const boxes = mine.map((one) => h("input", { type: "checkbox", value: one }));
    const send = async (event) => {
      event.preventDefault();
      const scopes = boxes.filter((one) => one.checked).map((one) => one.value);
      if (!scopes.length) { toast(t("account.token.scopeDue"), { kind: "bad" }); return; }
      const token = await tried(() => post("/auth/tokens", { name: name.value.trim(), scopes, expires_at: until.value ? new Date(`${until.value}T23:59:59`).toISOString() : null }));
      if (token) close(token);
    };
    return h("form", { onsubmit: send },
      h("label", { class: "field", htmlFor: "token-name" }, h("span", {}, t("account.name")), name),
      h("label", { class: "field", htmlFor: "token-until" }, h("span", {}, t("account.token.until")), until),
      h("fieldset", { class: "scopes" }, h("legend", {}, t("account.scopes")), boxes.map((box) => h("label", { class: "tickbox" }, box, h("code", {}, box.value)))),
      h("footer", { class: "form-foot" }, h("button", { class: "primary" }, t("users.create"))));
  });
  if (!made) return;
  await load();
  await dialog(made.name, (close) => {
    const field = h("input", { value: made.token, readOnly: true, class: "mono", id: "secret", "data-first": "", "aria-label": t("account.token"), onfocus: () => field.select() });
    return [h("p", {}, t("account.token.once")), field, h("footer", {}, h("button", { type: "button", class: "primary", onclick: () => close() }, t("close")))];
  });
}

await tried(load);
