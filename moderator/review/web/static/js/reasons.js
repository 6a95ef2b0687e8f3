// Why something is dismissed: one key chooses a reason from the list.

import { dialog, h, muted, t, words } from "./core.js";

/** Ask; resolves with { reason, comment }, or undefined when the dialog is left. */
export function reasonOf(said = "", title = t("case.dismissWhy")) {
  const reasons = words("reasons");
  return dialog(title, (close) => {
    const words_ = h("input", { value: said, maxLength: 5000, "aria-label": t("case.comment"), placeholder: t("case.comment.other") });
    const choose = (reason) => {
      if (reason === "other" && !words_.value.trim()) { words_.focus(); words_.classList.add("due"); return; }
      close({ reason, comment: words_.value.trim() });
    };
    words_.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing && words_.value.trim()) { event.preventDefault(); choose("other"); } });
    const list = h("div", { class: "reasons" }, reasons.map(([reason, label], index) => h("button", { type: "button", class: "reason", onclick: () => choose(reason), "data-reason": reason, ...(index ? {} : { "data-first": "" }) }, h("kbd", {}, (index + 1) % 10), label)));
    list.addEventListener("keydown", (event) => {
      const number = "1234567890".indexOf(event.key);
      const buttons = [...list.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      if (number >= 0 && reasons[number]) { event.preventDefault(); choose(reasons[number][0]); }
      else if (["ArrowDown", "j"].includes(event.key)) { event.preventDefault(); buttons[(at + 1) % buttons.length].focus(); }
      else if (["ArrowUp", "k"].includes(event.key)) { event.preventDefault(); buttons[(at + buttons.length - 1) % buttons.length].focus(); }
    });
    return [list, h("label", { class: "field" }, h("span", {}, t("case.comment")), words_), h("footer", {}, muted(t("case.dismissKeys")))];
  });
}
