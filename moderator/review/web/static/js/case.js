// One case: everything a decision needs, and the decision.

import {
  ago, api, ask, bytes, clock, dialog, disposition, download, empty, fail, get, h, lang, loadMeta, main, marked, may, me, muted,
  option, percent, post, readsChinese, reasonText, severity, shortStamp, stamp, statusTag, t, tabStore, time, toast, tried, word, words,
} from "./core.js";
import { bind, bindCommon, hint } from "./keys.js";
import { listen } from "./events.js";
import { reasonOf } from "./reasons.js";
import { Player } from "./player.js";

const WORKING = new Set(["open", "second_review", "needs_proof", "escalated", "appealed"]);

await loadMeta();
bindCommon();

let id = document.body.dataset.id;
let detail = null;
let lockedBy = "";
let renewal = 0;
let recorded = { broadcast: "", media: "", title: "" };
const people = new Map([[me.id, me.name]]);
const player = new Player({ heard: follow });
const skipped = new Set();

const head = h("header", { class: "case-head" });
const media = h("div", { class: "case-media" });
const speech = h("section", { class: "case-speech", "aria-label": t("case.transcript") });
const past = h("div", { class: "case-past" });
const why = h("section", { class: "case-why", "aria-label": t("case.why") });
const bar = h("footer", { class: "case-bar", "aria-label": t("case.decide") });
const comment = h("input", { class: "comment", maxLength: 5000, placeholder: t("case.comment"), "aria-label": t("case.comment") });
comment.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); comment.blur(); } });
main.classList.add("case");
main.append(head, h("div", { class: "case-grid" }, h("section", { class: "case-left", tabIndex: 0, "aria-label": t("case.media") }, media, past), speech, why), bar);

// --- opening ------------------------------------------------------------------------------

async function open(next, { push = true } = {}) {
  if (next !== id) release();
  id = next;
  if (push) history.pushState(null, "", `/violations/${id}`);
  comment.value = "";
  await load({ whole: true });
}

async function load({ whole = false } = {}) {
  main.setAttribute("aria-busy", "true");
  const asked = id;
  try {
    const found = await get(`/violations/${encodeURIComponent(asked)}`);
    if (asked !== id) return;
    detail = found;
    if (whole) await recording();
    // A decided case that is still open here and is appealed against is for whoever opens it next.
    const wanted = whole || Boolean(lockedBy) || detail.violation.claimed_by === me.id;
    lockedBy = "";
    if (wanted && mine(detail.violation)) await claim();
    draw(whole);
    document.title = `${detail.violation.quote || detail.violation.rule_title} · ${t("app.name")}`;
  } catch (error) {
    if (error.status === 404) main.replaceChildren(empty(error.message, h("a", { class: "button", href: "/queue" }, t("case.back"))));
    else fail(error);
  } finally {
    main.removeAttribute("aria-busy");
  }
}

/** Where a record came without a clip, the whole recording shows the moment, if it was kept. */
async function recording() {
  const { broadcast_id: broadcast, room_id: room } = detail.violation;
  if (recorded.broadcast === broadcast) return;
  recorded = { broadcast, media: "", title: room };
  try {
    const [seen, there] = await Promise.all([get(`/rooms/${encodeURIComponent(room)}`), get(`/broadcasts/${encodeURIComponent(broadcast)}/timeline?limit=1`)]);
    recorded = { broadcast, media: there.broadcast.media_url ?? "", title: seen.title || room };
  } catch { /* the case can be judged without it */ }
}

/** Whether this person can bring the case on. */
function mine(row) {
  return may("violations:decide") && WORKING.has(row.status) && (row.status !== "appealed" || may("appeals:answer"));
}

async function claim() {
  clearTimeout(renewal);
  try {
    Object.assign(detail.violation, await post(`/violations/${id}/claim`));
    const minutes = Number(document.body.dataset.claimMinutes) || 10;
    renewal = setTimeout(() => { if (!document.hidden && WORKING.has(detail.violation.status)) claim(); }, minutes * 30000);
  } catch (error) {
    if (error.code === "LM-910") lockedBy = error.message;
    else if (error.code !== "LM-912") fail(error);
  }
}

/** Give the lock back when the case is left; the lock would end by itself too. */
function release() {
  clearTimeout(renewal);
  const held = detail?.violation;
  if (!held || held.claimed_by !== me.id || !WORKING.has(held.status)) return;
  const token = document.querySelector("meta[name=csrf-token]").content;
  fetch(`/api/v1/violations/${held.id}/release`, { method: "POST", keepalive: true, headers: { "X-CSRF-Token": token } }).catch(() => {});
}
addEventListener("pagehide", release);
addEventListener("popstate", () => open(location.pathname.split("/").pop(), { push: false }));
addEventListener("pageshow", (event) => { if (event.persisted) load(); });

// --- drawing ------------------------------------------------------------------------------

function draw(whole) {
  drawHead();
  if (whole) drawMedia();
  drawSpeech();
  drawWhy();
  drawPast();
  drawBar();
  if (whole) { why.scrollTop = 0; media.parentElement.scrollTop = 0; }
}

const can = (action) => detail.can.includes(action) && !lockedBy;

function place() {
  const ids = tabStore.get("queue.ids", []);
  const at = ids.indexOf(id);
  return { ids, at };
}

function drawHead() {
  const row = detail.violation;
  const { ids, at } = place();
  head.replaceChildren(...[
    h("div", { class: "case-line" },
      h("a", { class: "link", href: tabStore.get("queue", {}).address || "/queue" }, "← ", t("nav.queue")),
      at >= 0 ? muted(`${at + 1} / ${ids.length}`) : null,
      statusTag(row.status), disposition(row.disposition), severity(row.severity),
      h("span", { class: "muted" }, word("categories", row.category)),
      row.exported_at ? h("span", { class: "exported", title: stamp(row.exported_at) }, t("queue.exported")) : null,
      row.held ? h("span", { class: "tag" }, t("case.held")) : null,
      row.assignee_id ? muted(`→ ${people.get(row.assignee_id) ?? t("queue.colleague")}`) : null,
      h("span", { class: "push" }),
      lockedBy ? null : row.claimed_by === me.id && WORKING.has(row.status) ? h("span", { class: "lock mine", title: stamp(row.claimed_until) }, h("span", { class: "lock-icon", "aria-hidden": "true" }), t("case.yours")) : null,
      h("a", { class: "link", href: `/rooms/${encodeURIComponent(row.room_id)}?broadcast=${encodeURIComponent(row.broadcast_id)}&t=${row.start}` }, `${recorded.title || row.room_id}${row.host ? ` · ${row.host}` : ""}`),
      h("span", { class: "num" }, clock(row.start, true)), time(row.at)),
    h("h1", { class: "case-quote" }, row.quote ? h("mark", { class: "fault" }, row.quote) : t("case.absent")),
    lockedBy ? h("p", { class: "banner", role: "alert", id: "locked" }, h("span", { class: "lock-icon", "aria-hidden": "true" }), lockedBy,
      me.role === "admin" ? h("button", { type: "button", class: "link", onclick: freeIt }, t("case.free")) : null) : null,
  ].filter(Boolean));
}

async function freeIt() {
  if (await tried(() => post(`/violations/${id}/release`))) load();
}

function drawMedia() {
  const record = detail.record;
  const clip = detail.evidence.find((one) => one.kind === "clip" && one.there);
  const frames = detail.evidence.filter((one) => one.kind === "frame" && one.there);
  const parts = [];
  if (clip) {
    player.show(clip.url, clipBegin(clip.path, record), record.start, Math.min(record.end, record.start + 30));
    parts.push(player.element);
  } else if (recorded.media) {
    player.show(recorded.media, 0, record.start, Math.min(record.end, record.start + 30));
    parts.push(player.element);
  } else player.stop();
  frames.forEach((frame, index) => parts.push(h("figure", { class: "frame" },
    h("button", { type: "button", class: "frame-open", onclick: () => enlarge(frame), "aria-label": `${t("case.frame")}: ${detail.violation.quote}` },
      h("img", { src: frame.url, alt: `${t("case.frame")}: ${detail.violation.quote}`, loading: index ? "lazy" : "eager" })),
    h("figcaption", {}, t("case.frame")))));
  if (!parts.length) parts.push(empty(t("case.noMedia"), muted(record.channel === "stream" ? t("case.wholeSession") : t("case.noMedia.why"))));
  const gone = detail.evidence.filter((one) => !one.there && one.kind !== "transcript");
  if (gone.length) parts.push(h("p", { class: "muted" }, t("case.gone", { files: gone.map((one) => one.path).join(", ") })));
  media.classList.toggle("both", Boolean(clip && frames.length));
  media.replaceChildren(...parts);
}

/** The clip begins three seconds before the words its name tells of: `007_2-34.mp4`. */
function clipBegin(path, record) {
  const found = /_(?:(\d+)-)?(\d+)-(\d\d)\.\w+$/.exec(path);
  const named = found ? Number(found[1] ?? 0) * 3600 + Number(found[2]) * 60 + Number(found[3]) : record.start;
  const words = Math.abs(Math.floor(record.start) - named) < 1 ? record.start : named;
  return Math.max(0, words - 3);
}

function enlarge(frame) {
  dialog(t("case.frame"), () => h("img", { class: "whole", src: frame.url, alt: detail.violation.quote }), { wide: true });
}

function drawSpeech() {
  const record = detail.record;
  const [begin, end] = record.span ?? [0, 0];
  const heard = record.heard && record.heard !== record.quote;
  const words_ = h("div", { class: "compare" },
    h("div", {}, h("h3", {}, heard ? t("case.heard") : t(`case.said.${record.channel === "screen" || record.channel === "code" ? "screen" : "speech"}`)), h("p", { class: "said" }, heard ? record.heard : record.quote || "–")),
    h("div", {}, h("h3", {}, t("case.matched")), h("p", { class: "said" }, record.match.matched || record.quote || "–"),
      muted(`${t(`match.${record.match.kind}`)} ${record.match.score.toFixed(2)}${record.match.acoustic_llr === null || record.match.acoustic_llr === undefined ? "" : ` · ${t("case.llr", { value: record.match.acoustic_llr.toFixed(1) })}`}`)));
  // What stands on the screen all the while (the room's name, its buttons) says nothing here.
  const lines = detail.transcript.filter((one) => one.channel !== "screen" || touches(one) || one.end - one.start < 90);
  const list = h("ol", { class: "transcript" }, lines.map(line));
  const rolling = h("div", { class: "rolling", tabIndex: 0, role: "region", "aria-label": t("case.transcript") }, lines.length ? list : muted(t("case.noTranscript")));
  speech.replaceChildren(
    words_,
    h("p", { class: "context" }, record.context ? marked(record.context, begin, end) : muted(t("case.noContext"))),
    h("h2", {}, t("case.transcript")),
    rolling);
  const at = list.querySelector(".touching");
  if (at) requestAnimationFrame(() => { rolling.scrollTop = Math.max(0, at.offsetTop - rolling.clientHeight / 2 + at.clientHeight / 2); });
}

/** While the clip plays, the line that is being said stands out. */
function follow(second) {
  const lines = [...speech.querySelectorAll(".transcript .speech")];
  const now = lines.findLast((one) => Number(one.dataset.start) <= second + 0.05 && Number(one.dataset.end) > second - 0.4);
  if (now?.classList.contains("now")) return;
  for (const one of lines) one.classList.toggle("now", one === now);
}

const during = (one) => one.end > detail.record.start - 0.05 && one.start < detail.record.end + 0.05;
const solid = (text) => text.replace(/\s+/g, "");

/** Whether `one` is where the fault is. Much stands on a screen at once; the words tell which. */
function touches(one) {
  if (!during(one) || !fitsChannel(one)) return false;
  const said = solid(detail.record.quote);
  return one.channel !== "screen" || !said || solid(one.text).includes(said) || said.includes(solid(one.text));
}
const fitsChannel = (one) => one.channel === detail.record.channel || (detail.record.channel === "stream" && one.channel === "speech") || one.channel === "gap";

function line(one) {
  const here = touches(one);
  const doubted = one.body?.distrust;
  return h("li", { class: `${one.channel} ${here ? "touching" : ""} ${doubted ? "doubted" : ""}`, "data-start": one.start, "data-end": one.end },
    h("button", { type: "button", class: "at num", onclick: () => player.seek(one.start), title: t("case.seek") }, clock(one.start)),
    one.channel === "speech" ? null : h("span", { class: "channel" }, t(`channel.${one.channel}`)),
    h("span", { class: "text" }, here ? faulty(one) : one.text || t("case.gap", { seconds: (one.end - one.start).toFixed(1) })));
}

/** The words at fault inside a line: where they are written, else by the time of each character. */
function faulty(one) {
  const record = detail.record;
  for (const words_ of [record.heard, record.quote].filter(Boolean)) {
    const at = one.text.indexOf(words_);
    if (at >= 0) return [one.text.slice(0, at), h("mark", { class: "fault" }, words_), one.text.slice(at + words_.length)];
  }
  const chars = one.body?.chars;
  if (!Array.isArray(chars) || record.channel !== "speech") return one.text;
  const inside = ([, start, end]) => (start + end) / 2 >= record.start && (start + end) / 2 <= record.end;
  const first = chars.findIndex(inside);
  if (first < 0) return one.text;
  const last = chars.length - 1 - [...chars].reverse().findIndex(inside);
  const join = (from, to) => chars.slice(from, to).map(([text]) => text).join("");
  return [join(0, first), h("mark", { class: "fault" }, join(first, last + 1)), join(last + 1)];
}

function drawWhy() {
  const { record, rule } = detail;
  // A record is written in one language; the rule says the same in both.
  const translated = rule !== null && readsChinese(record.explanation) !== (lang === "zh");
  const sections = [];
  const section = (title, ...children) => sections.push(h("section", {}, h("h2", {}, title), ...children));

  if (detail.appeals.length) section(t("case.appeals"), detail.appeals.map(appeal));
  section(t("case.rule"),
    h("p", { class: "strong" }, rule?.title ?? record.rule.title, " ", h("span", { class: "muted mono" }, `${record.rule.id} v${record.rule.version}`)),
    translated ? h("p", {}, rule.message.replaceAll("{quote}", record.quote)) : null,
    h("p", { class: translated ? "muted" : "" }, reasonText(record)),
    record.suggestion ? h("p", { class: "suggest" }, h("span", { class: "label" }, t("case.instead")), translated ? [rule.suggest.replaceAll("{quote}", record.quote), h("br")] : null, record.suggestion) : null,
    h("p", { class: "muted" }, `${t("queue.confidence")} ${percent(record.confidence)} · ${t("queue.risk")} ${percent(detail.violation.risk)}${detail.violation.occurrences > 1 ? ` · ×${detail.violation.occurrences}` : ""}`));

  if (detail.articles.length) {
    section(t("case.law"), detail.articles.map((one, index) => h("details", { class: "article", open: index === 0 },
      h("summary", {}, h("b", {}, `${one.title.startsWith("《") ? one.title : `《${one.title}》`}${one.article}`), one.effective ? muted(` ${t("case.effective", { date: one.effective })}`) : null),
      one.text ? h("blockquote", {}, one.text) : muted(t("case.unverified")))));
  }

  if (record.advice) section(t("case.advice"),
    h("p", {}, `${t(`advice.${record.advice.verdict}`)} · ${percent(record.advice.confidence)}${record.advice.applied ? ` · ${t("advice.applied")}` : ""}`),
    h("p", { class: "muted" }, record.advice.reason),
    h("p", { class: "muted" }, record.advice.model));
  if (record.exemptions_considered.length) section(t("case.exemptions"), h("ul", { class: "plain" }, record.exemptions_considered.map((one) => h("li", {}, h("span", { class: "no", "aria-hidden": "true" }, "–"), one))));
  if (rule?.needs_names.length) section(t("case.needs"), h("ul", { class: "plain" }, rule.needs_names.map((one) => h("li", {}, h("span", { class: "box", "aria-hidden": "true" }), one))));
  section(t("case.passport"), detail.passport ? passport(detail.passport) : muted(t("case.noPassport")));

  const trail = [
    ...detail.decisions.map((one) => ({ at: one.at, element: decision(one) })),
    ...detail.notes.map((one) => ({ at: one.at, element: h("li", {}, h("b", {}, one.user_name), " ", muted(t("case.noted")), " ", time(one.at), h("p", {}, one.text)) })),
    ...detail.exports.map((one) => ({ at: one.at, element: h("li", {}, h("b", {}, one.user_name), " ", muted(t("case.exportedAs", { kind: one.kind.toUpperCase() })), " ", time(one.at), " ",
      may("evidence:export") ? h("a", { class: "link", href: one.url }, `${bytes(one.size_bytes)} ↓`) : null, h("code", { class: "hash", title: one.sha256 }, one.sha256.slice(0, 12))) })),
  ].sort((a, b) => (a.at < b.at ? -1 : 1));
  section(t("case.trail"), trail.length ? h("ol", { class: "trail", id: "trail" }, trail.map((one) => one.element)) : muted(t("case.noTrail")));
  why.replaceChildren(...sections);
}

/** What this host did before, and what was decided on the like. */
function drawPast() {
  const history = Object.entries(detail.host_history);
  past.replaceChildren(
    h("section", {}, h("h2", {}, t("case.history", { host: detail.violation.host || detail.violation.room_id })),
      history.length ? h("div", { class: "tally" }, history.map(([status, count]) => h("span", {}, statusTag(status), h("b", {}, count)))) : muted(t("case.noHistory"))),
    h("section", {}, h("h2", {}, t("case.similar")), detail.similar.length ? h("ul", { class: "similar" }, detail.similar.map((one) => h("li", {},
      h("button", { type: "button", class: "link", onclick: () => open(one.id) }, one.quote || one.rule_title), statusTag(one.status), muted(ago(one.decided_at))))) : muted(t("case.noSimilar"))));
}

function decision(one) {
  return h("li", { class: one.undone_at ? "undone" : "" },
    h("b", {}, one.user_name), " ", t(`did.${one.action}`), one.stage === 2 ? muted(` ${t("case.second")}`) : null,
    one.reason ? ` · ${word("reasons", one.reason)}` : "", " ", time(one.at), one.undone_at ? muted(` ${t("case.undone")}`) : null,
    one.comment ? h("p", {}, one.comment) : null);
}

function passport(body) {
  const facts = [];
  const fact = (key, value) => { if (value && value.length !== 0) facts.push(h("dt", {}, t(`passport.${key}`)), h("dd", {}, value)); };
  const papers = (items) => (items ?? []).map((one) => h("div", {}, [one.title, one.number, one.scope].filter(Boolean).join(" ")));
  fact("category", t(`product.${body.category}`));
  fact("registrations", papers(body.registrations));
  fact("approvals", papers(body.approvals));
  fact("certificates", papers(body.certificates));
  fact("proofs", papers(body.proofs));
  fact("origin", body.origin);
  if (body.price) fact("price", [["list", body.price.list], ["live", body.price.live], ["lowest", body.price.lowest_30d]].filter(([, value]) => value !== undefined && value !== null).map(([key, value]) => `${t(`passport.price.${key}`)} ¥${value}`).join(" · "));
  fact("ingredients", (body.ingredients ?? []).join("、"));
  return h("div", {}, h("p", { class: "strong" }, body.name), h("dl", { class: "facts" }, facts));
}

function appeal(one) {
  return h("article", { class: "appeal" },
    h("p", {}, h("span", { class: `tag ap-${one.state}` }, t(`appeal.${one.state}`)), " ", one.name ? h("b", {}, one.name) : null, " ", muted(one.submitted_at ? stamp(one.submitted_at) : t("appeal.until", { time: shortStamp(one.expires_at) }))),
    one.text ? h("blockquote", {}, one.text) : null,
    one.documents.length ? h("ul", { class: "plain" }, one.documents.map((file) => h("li", {}, h("a", { class: "link", href: `/api/v1/appeals/${one.id}/documents/${file.id}` }, file.name), muted(` ${bytes(file.size_bytes)}`)))) : null,
    one.answer ? h("p", {}, h("span", { class: "label" }, t("appeal.answer")), one.answer) : null,
    one.state === "submitted" && may("appeals:answer") ? h("p", {}, h("button", { type: "button", onclick: answerAppeal }, t("appeal.doAnswer"), " ", hint("case.answer"))) : null);
}

function drawBar() {
  const button = (action, run, kind = "") => h("button", { type: "button", class: `act ${kind}`, onclick: run, disabled: !can(action), "data-act": action }, t(`act.${action}`), " ", hint(`case.${action}`));
  const decide = may("violations:decide");
  // A case that is decided shows what is still possible; one that another has shows what would be.
  const verdicts = [["confirm", () => judge("confirm"), "yes"], ["dismiss", dismiss, "no"], ["needs_proof", () => judge("needs_proof")], ["escalate", () => judge("escalate")]];
  const undecided = lockedBy || verdicts.some(([action]) => detail.can.includes(action));
  const first = decide ? [
    appealed() && may("appeals:answer") ? h("button", { type: "button", class: "act primary", id: "answer", onclick: answerAppeal }, t("appeal.doAnswer"), " ", hint("case.answer")) : null,
    undecided ? verdicts.map((one) => button(...one)) : null,
    detail.can.includes("reopen") ? button("reopen", reopen) : null,
  ] : [h("span", { class: "muted" }, t("case.readOnly"))];
  const more = [
    detail.can.includes("undo") ? button("undo", undo) : null,
    decide ? button("assign", assign) : null,
    decide ? button("note", note) : null,
    detail.can.includes("invite") ? button("invite", invite) : null,
    may("evidence:export") ? h("button", { type: "button", class: `act ${detail.violation.exported_at ? "done" : ""}`, id: "export", onclick: exportCase, title: detail.violation.exported_at ? stamp(detail.violation.exported_at) : "" },
      detail.violation.exported_at ? t("act.exportedAgain") : t("act.export"), " ", hint("case.export")) : null,
    may("violations:second") ? h("button", { type: "button", class: "act", id: "hold", onclick: hold, "aria-pressed": Boolean(detail.violation.held) }, detail.violation.held ? t("act.unhold") : t("act.hold"), " ", hint("case.hold")) : null,
  ];
  bar.replaceChildren(...[
    h("div", { class: "acts" }, first.flat().filter(Boolean)),
    decide && (can("confirm") || can("dismiss") || can("reopen")) ? comment : null,
    h("div", { class: "acts more" }, more),
    h("div", { class: "acts step" },
      h("button", { type: "button", class: "act", onclick: () => step(-1), "aria-label": t("case.previous"), title: t("case.previous") }, "↑ ", hint("case.previous")),
      h("button", { type: "button", class: "act", onclick: () => step(1), "aria-label": t("case.next"), title: t("case.next") }, "↓ ", hint("case.next")),
      decide ? h("button", { type: "button", class: "act", onclick: takeNext }, t("queue.take"), " ", hint("case.take")) : null),
  ].filter(Boolean));
}

// --- deciding -----------------------------------------------------------------------------

let busy = false;

async function judge(action, reason = "", words_ = comment.value.trim()) {
  if (!detail || busy) return;
  if (!can(action)) { toast(lockedBy || t("case.cannot", { action: t(`act.${action}`) }), { kind: "bad" }); return; }
  busy = true;
  const judged = id;
  try {
    const made = await post(`/violations/${id}/decisions`, { action, reason, comment: words_, version: detail.violation.version });
    clearTimeout(renewal);
    detail.violation = made.violation;
    tabStore.set("undo", judged);
    skipped.add(judged);
    const shown = [t(`did.${action}`), `“${(made.violation.quote || made.violation.rule_title).slice(0, 24)}”`, made.violation.status === "second_review" ? t("case.toSecond") : ""].filter(Boolean).join(" ");
    toast(shown, { kind: "good", action: undo, label: `${t("act.undo")} (u)` });
    await takeNext({ stay: true });
  } catch (error) {
    fail(error);
    if (["LM-910", "LM-911", "LM-912"].includes(error.code)) await load();
  } finally {
    busy = false;
  }
}

async function takeNext({ stay = false } = {}) {
  const { filter = {}, sort = "risk" } = tabStore.get("queue", {});
  if (!stay) skipped.add(id);
  const statuses = (filter.status ?? ["open"]).filter((one) => WORKING.has(one));
  const answer = await tried(() => post("/violations/next", { filter: { ...filter, status: statuses }, sort, skip: [...skipped].slice(-200) }));
  if (answer?.violation) await open(answer.violation.id);
  else {
    if (answer) toast(t("queue.none"));
    await load();
  }
}

async function step(by) {
  const { ids, at } = place();
  const next = ids[at + by];
  if (next) await open(next);
  else toast(by > 0 ? t("case.last") : t("case.first"));
}

async function dismiss() {
  if (!can("dismiss")) { toast(lockedBy || t("case.cannot", { action: t("act.dismiss") }), { kind: "bad" }); return; }
  const why_ = await reasonOf(comment.value);
  if (why_) judge("dismiss", why_.reason, why_.comment);
}

async function reopen() {
  const words_ = comment.value.trim() || await ask(t("act.reopen"), { label: t("case.reopenWhy") });
  if (words_) judge("reopen", "", words_);
}

async function undo() {
  const last = detail?.can.includes("undo") ? id : tabStore.get("undo", "");
  if (!last) { toast(t("case.nothingToUndo")); return; }
  const row = await tried(() => post(`/violations/${last}/undo`));
  if (!row) return;
  tabStore.set("undo", "");
  skipped.delete(last);
  toast(t("case.undid"), { kind: "good" });
  await open(last);
}

async function assign() {
  const colleagues = await tried(() => get("/colleagues"));
  if (!colleagues) return;
  const chosen = await dialog(t("act.assign"), (close) => {
    const list = h("select", { size: Math.min(8, Math.max(3, colleagues.length + 1)), "data-first": "", "aria-label": t("act.assign"), onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); close(list.value); } }, ondblclick: () => close(list.value) },
      option("", t("queue.assignee.none"), !detail.violation.assignee_id), colleagues.map((one) => option(one.id, `${one.display_name || one.username} · ${word("roles", one.role)}`, one.id === detail.violation.assignee_id)));
    return [h("label", { class: "field" }, h("span", {}, t("case.assignTo")), list), h("footer", {}, h("button", { type: "button", class: "primary", onclick: () => close(list.value) }, t("act.assign")))];
  });
  if (chosen === undefined) return;
  if (await tried(() => api("PUT", `/violations/${id}/assignee`, { user_id: chosen || null }))) await load();
}

async function note() {
  const words_ = await ask(t("act.note"), { rows: 4 });
  if (words_ && await tried(() => post(`/violations/${id}/notes`, { text: words_ }))) await load();
}

async function hold() {
  const held = !detail.violation.held;
  const reason = await ask(held ? t("act.hold") : t("act.unhold"), { label: t("case.holdWhy"), rows: 2, required: false, ok: held ? t("act.hold") : t("act.unhold") });
  if (reason === undefined) return;
  if (await tried(() => api("PUT", `/violations/${id}/hold`, { held, reason }))) await load();
}

async function invite() {
  if (!detail.can.includes("invite")) return;
  const made = await tried(() => post(`/violations/${id}/appeals`));
  if (!made) return;
  await dialog(t("appeal.link"), (close) => {
    const field = h("input", { value: made.url, readOnly: true, "data-first": "", "aria-label": t("appeal.link"), class: "mono", onfocus: () => field.select() });
    return [h("p", {}, t("appeal.link.why", { time: stamp(made.appeal.expires_at) })), field,
      h("footer", {}, h("button", { type: "button", class: "primary", onclick: async () => { try { await navigator.clipboard.writeText(made.url); toast(t("copied")); } catch { field.select(); } close(); } }, t("copy")))];
  });
  await load();
}

const appealed = () => detail.appeals.find((one) => one.state === "submitted");

async function answerAppeal() {
  const due = appealed();
  if (!due) { toast(t("appeal.noneDue")); return; }
  const given = await dialog(t("appeal.doAnswer"), (close) => {
    const words_ = h("textarea", { rows: 5, maxLength: 5000, "data-first": "", "aria-label": t("appeal.answer") });
    const send = (accepted) => { if (words_.value.trim()) close({ accepted, answer: words_.value.trim() }); else words_.focus(); };
    return [h("blockquote", {}, due.text), h("label", { class: "field" }, h("span", {}, t("appeal.answer")), words_),
      h("footer", {}, h("button", { type: "button", onclick: () => send(false) }, t("appeal.reject")), h("button", { type: "button", class: "primary", onclick: () => send(true) }, t("appeal.accept")))];
  });
  if (given && await tried(() => post(`/appeals/${due.id}/answer`, given))) await load();
}

async function exportCase() {
  if (!may("evidence:export")) return;
  const before = detail.exports.at(-1);
  const kind = await dialog(t("act.export"), (close) => [
    before ? h("p", { class: "banner" }, t("case.already", { name: before.user_name, time: stamp(before.at), kind: before.kind.toUpperCase() })) : null,
    h("div", { class: "reasons" },
      h("button", { type: "button", class: "reason", "data-first": "", "data-kind": "zip", onclick: () => close("zip") }, h("b", {}, "ZIP"), t("case.export.zip")),
      h("button", { type: "button", class: "reason", "data-kind": "pdf", onclick: () => close("pdf") }, h("b", {}, "PDF"), t("case.export.pdf"))),
  ].filter(Boolean));
  if (!kind) return;
  const working = toast(t("case.exporting"), { keep: 60000 });
  const made = await tried(() => post(`/violations/${id}/exports`, { kind }));
  working.remove();
  if (!made) return;
  download(made.url, `case-${id}.${made.kind}`);
  toast(`${t("case.exportDone")} sha256 ${made.sha256.slice(0, 16)}…`, { kind: "good" });
  await load();
}

// --- what happens elsewhere -----------------------------------------------------------------

listen({
  "violation.updated": (data) => {
    if (data.id !== id || !detail || busy) return;
    const row = detail.violation;
    const lockMoved = data.claimed_by !== row.claimed_by && data.claimed_by !== me.id;
    if (data.version !== row.version || data.status !== row.status || (lockMoved && (lockedBy || data.claimed_by))) load();
  },
  "violation.grown": (data) => { if (data.id === id) load(); },
}, { away: () => load() });

// --- keys ---------------------------------------------------------------------------------

bind("decide", "case.confirm", "y", () => judge("confirm"));
bind("decide", "case.dismiss", "x", dismiss);
bind("decide", "case.needs_proof", "p", () => judge("needs_proof"));
bind("decide", "case.escalate", "e", () => judge("escalate"));
bind("decide", "case.reopen", "o", () => { if (detail?.can.includes("reopen")) reopen(); });
bind("decide", "case.undo", "u", undo);
bind("decide", "case.comment", "i", () => comment.focus());
bind("decide", "case.assign", "a", assign);
bind("decide", "case.note", "t", note);
bind("decide", "case.invite", "s", invite);
bind("decide", "case.answer", "w", answerAppeal);
bind("decide", "case.export", "d", exportCase);
if (may("violations:second")) bind("decide", "case.hold", "h", hold);
bind("walk", "case.take", "n", () => takeNext());
bind("walk", "case.next", "j", () => step(1));
bind("walk", "case.previous", "k", () => step(-1));
bind("walk", "case.queue", ["q", "Escape"], () => location.assign(tabStore.get("queue", {}).address || "/queue"));
bind("play", "play.toggle", "Space", () => player.toggle());
bind("play", "play.moment", "m", () => player.moment());
bind("play", "play.back", "ArrowLeft", () => player.skip(-1));
bind("play", "play.forward", "ArrowRight", () => player.skip(1));
bind("play", "play.slower", ",", () => player.speed(-1));
bind("play", "play.faster", ".", () => player.speed(1));
bind("play", "play.loop", "l", () => player.toggleLoop());
bind("play", "play.sound", "v", () => player.toggleSound());
bind("play", "play.frame", "z", () => media.querySelector(".frame-open")?.click());
document.addEventListener("keys-changed", () => { if (detail) drawBar(); });

if (may("violations:decide")) tried(async () => { for (const one of await get("/colleagues")) people.set(one.id, one.display_name || one.username); });
await load({ whole: true });
