// People: accounts, roles and organisations.

import { api, ask, dialog, get, h, loadMeta, main, me, muted, option, post, t, time, toast, tried, word, words } from "./core.js";
import { bindCommon } from "./keys.js";

await loadMeta();
bindCommon();

let organisations = [];
const body = h("tbody");
const homes = h("ul", { class: "plain" });
main.append(h("div", { class: "page" },
  h("div", { class: "bar wall-bar" }, h("h1", {}, t("nav.users")), h("span", { class: "push" }), h("button", { type: "button", class: "primary", id: "new-user", onclick: create }, t("users.new"))),
  h("div", { class: "table-scroll" }, h("table", { class: "users" }, h("thead", {}, h("tr", {}, ["name", "role", "organisation", "last", "state", ""].map((one) => h("th", {}, one ? t(`users.${one}`) : "")))), body)),
  h("div", { class: "bar section-bar" }, h("h2", {}, t("users.organisations")), h("span", { class: "push" }), h("button", { type: "button", onclick: createHome }, t("users.organisation.new"))), homes));

const homeOf = (id) => organisations.find((one) => one.id === id)?.name ?? t("users.platform");

async function load() {
  const [people, homes_] = await Promise.all([get("/users"), get("/organisations")]);
  organisations = homes_;
  body.replaceChildren(...people.map((one) => h("tr", { class: one.disabled ? "muted" : "" },
    h("td", {}, h("b", {}, one.display_name || one.username), " ", muted(one.username)),
    h("td", {}, h("select", { "aria-label": `${t("users.role")}: ${one.username}`, disabled: one.id === me.id, onchange: (event) => change(one, { role: event.target.value }) }, words("roles").map(([id, label]) => option(id, label, id === one.role)))),
    h("td", {}, homeOf(one.organisation_id)), h("td", {}, one.last_login_at ? time(one.last_login_at) : muted(t("users.never"))),
    h("td", {}, one.disabled ? h("span", { class: "tag d-violation" }, t("users.disabled")) : one.must_change_password ? h("span", { class: "tag d-needs_proof" }, t("users.given")) : h("span", { class: "tag st-confirmed" }, t("users.active"))),
    h("td", { class: "acts" },
      h("button", { type: "button", class: "link", onclick: () => reset(one) }, t("users.reset")),
      one.id === me.id ? null : h("button", { type: "button", class: "link", onclick: () => change(one, { disabled: !one.disabled }) }, one.disabled ? t("users.enable") : t("users.disable"))))));
  homes.replaceChildren(...(organisations.length ? organisations.map((one) => h("li", {}, h("b", {}, one.name), muted(one.id))) : [h("li", {}, muted(t("users.organisation.none")))]));
}

async function change(one, values) {
  await tried(() => api("PATCH", `/users/${one.id}`, values));
  await tried(load);
}

async function reset(one) {
  const made = await tried(() => post(`/users/${one.id}/password`));
  if (made) { await secret(t("users.password.of", { name: one.username }), made.password, t("users.password.once")); load(); }
}

/** A secret that is shown this once. */
export function secret(title, value, why) {
  return dialog(title, (close) => {
    const field = h("input", { value, readOnly: true, class: "mono", "data-first": "", "aria-label": title, id: "secret", onfocus: () => field.select() });
    return [h("p", {}, why), field, h("footer", {}, h("button", { type: "button", class: "primary", onclick: async () => { try { await navigator.clipboard.writeText(value); toast(t("copied")); } catch { field.select(); } close(); } }, t("copy")))];
  });
}

async function create() {
  const made = await dialog(t("users.new"), (close) => {
    const name = h("input", { id: "new-username", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]*", autocapitalize: "none", "data-first": "" });
    const shown = h("input", { id: "new-name" });
    const role = h("select", { id: "new-role" }, words("roles").map(([id, label]) => option(id, label, id === "reviewer")));
    const home = h("select", { id: "new-home" }, option("", t("users.platform")), organisations.map((one) => option(one.id, one.name)));
    const send = async (event) => {
      event.preventDefault();
      const user = await tried(() => post("/users", { username: name.value.trim(), display_name: shown.value.trim(), role: role.value, organisation_id: home.value || null }));
      if (user) close(user);
    };
    const field = (input, key) => h("label", { class: "field", htmlFor: input.id }, h("span", {}, t(key)), input);
    return h("form", { onsubmit: send }, field(name, "login.username"), field(shown, "users.display"), field(role, "users.role"), field(home, "users.organisation"), h("footer", { class: "form-foot" }, h("button", { class: "primary" }, t("users.create"))));
  });
  if (!made) return;
  await load();
  await secret(t("users.password.of", { name: made.username }), made.password, t("users.password.once"));
}

async function createHome() {
  const name = await ask(t("users.organisation.new"), { label: t("users.organisation"), rows: 1, hint: t("users.organisation.hint") });
  if (name && await tried(() => post("/organisations", { name }))) load();
}

await tried(load);
