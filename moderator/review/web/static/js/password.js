// Changing the password: the given one must be changed before anything else.

import { api, h, main, t } from "./core.js";

const problem = h("p", { class: "form-problem", role: "alert" });
const field = (id, key, complete) => {
  const input = h("input", { id, type: "password", autocomplete: complete, required: true });
  return [h("label", { class: "field", htmlFor: id }, h("span", {}, t(key)), input), input];
};
const [oldField, old] = field("old", "password.old", "current-password");
const [newField, fresh] = field("new", "password.new", "new-password");
const [againField, again] = field("again", "password.again", "new-password");
const button = h("button", { class: "primary big" }, t("password.change"));

main.append(h("section", { class: "card narrow gate" },
  h("p", { class: "gate-name" }, t("app.name")),
  h("h1", {}, t("password.title")),
  h("p", { class: "muted" }, t("password.why")),
  h("form", { onsubmit: change }, oldField, newField, againField, problem, button)));
old.focus();

async function change(event) {
  event.preventDefault();
  problem.textContent = "";
  if (fresh.value !== again.value) {
    problem.textContent = t("password.differ");
    again.select();
    again.focus();
    return;
  }
  button.disabled = true;
  try {
    await api("POST", "/auth/password", { old: old.value, new: fresh.value });
    location.replace("/");
  } catch (error) {
    problem.textContent = [error.message, error.mend].filter(Boolean).join(" ");
    button.disabled = false;
    fresh.select();
    fresh.focus();
  }
}
