// The merchant's side of a case: what was found, and what speaks against it.

import { api, bytes, clock, get, h, main, muted, post, setLanguage, lang, stamp, t, toast, fail } from "./core.js";

const token = document.body.dataset.token;
const path = `/appeal-links/${encodeURIComponent(token)}`;

async function load() {
  try { draw(await get(path)); } catch (error) {
    main.replaceChildren(h("section", { class: "card narrow" }, h("h1", {}, error.message), h("p", {}, error.mend)));
  }
}

function draw(found) {
  const clip = found.evidence.find((one) => one.kind === "clip" && one.there);
  const frames = found.evidence.filter((one) => one.kind === "frame" && one.there);
  const open = found.state === "invited";
  main.replaceChildren(h("article", { class: "card appeal-page" },
    h("header", { class: "bar" }, h("span", { class: "gate-name" }, t("app.name")), h("span", { class: "push" }), h("button", { type: "button", class: "link", onclick: () => setLanguage(lang === "zh" ? "en" : "zh") }, lang === "zh" ? "English" : "中文")),
    h("p", { class: "muted" }, `${found.room_title} · ${stamp(found.at)} · ${clock(found.start)}`),
    h("h1", { class: "case-quote" }, h("mark", { class: "fault" }, found.quote || found.rule_title)),
    found.context ? h("p", { class: "context" }, quoted(found)) : null,
    h("div", { class: "appeal-media" }, clip ? h("video", { src: clip.url, controls: true, playsInline: true, preload: "metadata" }) : null, frames.map((one) => h("img", { src: one.url, alt: found.quote }))),
    h("h2", {}, t("appeal.grounds")), h("p", { class: "strong" }, found.rule_title), h("p", {}, found.explanation),
    found.articles.map((one) => h("details", { class: "article" }, h("summary", {}, h("b", {}, `${one.title.startsWith("《") ? one.title : `《${one.title}》`}${one.article}`)), one.text ? h("blockquote", {}, one.text) : muted(t("case.unverified")))),
    found.documents_wanted.length ? [h("h2", {}, t("case.needs")), h("ul", { class: "plain" }, found.documents_wanted.map((one) => h("li", {}, h("span", { class: "box", "aria-hidden": "true" }), one)))] : null,
    open ? form(found) : answer(found)));
}

/** The context with the words at fault marked in it. */
function quoted({ context, quote }) {
  const at = quote ? context.indexOf(quote) : -1;
  return at < 0 ? [context] : [context.slice(0, at), h("mark", { class: "fault" }, quote), context.slice(at + quote.length)];
}

function documents(found) {
  return found.documents.length ? h("ul", { class: "plain" }, found.documents.map((one) => h("li", {}, "✓ ", one.name, muted(bytes(one.size_bytes))))) : null;
}

function form(found) {
  const text = h("textarea", { id: "appeal-text", rows: 7, required: true, maxLength: 20000 });
  const name = h("input", { id: "appeal-name", maxLength: 200, autocomplete: "organization" });
  const contact = h("input", { id: "appeal-contact", maxLength: 200 });
  const files = h("input", { id: "appeal-files", type: "file", multiple: true, accept: ".pdf,.jpg,.jpeg,.png,.webp,.docx,.txt" });
  const button = h("button", { class: "primary big" }, t("appeal.send"));
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      for (const file of files.files) {
        const one = new FormData();
        one.append("file", file);
        await api("POST", `${path}/documents`, one);
      }
      draw(await post(path, { name: name.value.trim(), contact: contact.value.trim(), text: text.value.trim() }));
      toast(t("appeal.sent"), { kind: "good" });
    } catch (error) { fail(error); button.disabled = false; }
  };
  const field = (input, key) => h("label", { class: "field", htmlFor: input.id }, h("span", {}, t(key)), input);
  return h("form", { onsubmit: send, class: "appeal-form" }, h("h2", {}, t("appeal.yours")), muted(t("appeal.until", { time: stamp(found.expires_at) })),
    field(text, "appeal.text"), field(files, "appeal.documents"), documents(found), h("div", { class: "pair" }, field(name, "appeal.name"), field(contact, "appeal.contact")), button);
}

function answer(found) {
  return h("section", { class: "appeal-form" }, h("h2", {}, t("appeal.yours")), h("p", {}, h("span", { class: `tag ap-${found.state}` }, t(`appeal.${found.state}`)), " ", muted(stamp(found.submitted_at))),
    h("blockquote", {}, found.text), documents(found), found.answer ? [h("h2", {}, t("appeal.answer")), h("blockquote", {}, found.answer), muted(stamp(found.answered_at))] : null);
}

await load();
