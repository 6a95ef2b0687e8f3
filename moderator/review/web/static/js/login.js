// Logging in.

import { api, h, lang, main, setLanguage, t } from "./core.js";

const inside = document.body.dataset.next || "/";
const problem = h("p", { class: "form-problem", role: "alert" });
const name = h("input", { id: "username", name: "username", autocomplete: "username", required: true, autofocus: true, autocapitalize: "none", spellcheck: false });
const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
const button = h("button", { class: "primary big" }, t("login.enter"));

main.append(h("section", { class: "card narrow gate" },
  h("p", { class: "gate-name" }, t("app.name")),
  h("h1", {}, t("login.title")),
  h("form", { onsubmit: enter },
    h("label", { class: "field", htmlFor: "username" }, h("span", {}, t("login.username")), name),
    h("label", { class: "field", htmlFor: "password" }, h("span", {}, t("login.password")), password),
    problem,
    button),
  h("p", { class: "gate-foot" },
    h("span", { class: "muted" }, t("login.first")),
    h("button", { type: "button", class: "link", onclick: () => setLanguage(lang === "zh" ? "en" : "zh") }, lang === "zh" ? "English" : "中文"))));
name.focus();

async function enter(event) {
  event.preventDefault();
  button.disabled = true;
  problem.textContent = "";
  try {
    const me = await api("POST", "/auth/login", { username: name.value.trim(), password: password.value });
    location.replace(me.must_change_password ? "/password" : inside);
  } catch (error) {
    problem.textContent = [error.message, error.mend].filter(Boolean).join(" ");
    button.disabled = false;
    password.select();
    password.focus();
  }
}
