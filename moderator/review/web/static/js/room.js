// One room: its recording, and a timeline of what was said, shown and found that seeks it.

import { ago, clock, disposition, empty, fail, get, h, loadMeta, main, may, muted, option, query, s, severity, shortStamp, statusTag, t, word } from "./core.js";
import { bind, bindCommon } from "./keys.js";
import { listen } from "./events.js";

await loadMeta();
bindCommon();

const id = document.body.dataset.id;
const given = new URLSearchParams(location.search);
const title = h("h1", {}, id);
const facts = h("p", { class: "muted" });
const sessions = h("select", { "aria-label": t("room.session"), onchange: () => show(sessions.value) });
const video = h("video", { controls: true, playsInline: true, preload: "metadata", "aria-label": t("room.recording") });
const lanes = h("div", { class: "lanes", role: "group", "aria-label": t("room.timeline") });
const list = h("ol", { class: "transcript room-lines" });
const found = h("ol", { class: "room-found" });
const stage = h("div", { class: "room-stage" }, video);

main.classList.add("room");
main.append(
  h("header", { class: "case-head room-head" },
    h("div", { class: "case-line" }, h("a", { class: "link", href: "/rooms" }, "← ", t("nav.rooms")), facts, h("span", { class: "push" }), sessions),
    title),
  lanes,
  h("div", { class: "room-grid" }, stage, h("section", { class: "room-speech", tabIndex: 0, "aria-label": t("case.transcript") }, list), h("section", { class: "room-side", "aria-label": t("room.found") }, h("h2", {}, t("room.found")), found)));

let broadcast = null;
let observations = [];
let violations = [];
let length = 1;
let drawn = null;

async function start() {
  const room = await get(`/rooms/${encodeURIComponent(id)}`);
  title.textContent = room.title || room.id;
  document.title = `${room.title || room.id} · ${t("app.name")}`;
  facts.replaceChildren(h("span", { class: `room-state plainly rs-${room.state}` }, t(`room.state.${room.state}`)), " ", [room.host, room.merchant].filter(Boolean).join(" · "));
  const there = await get(`/rooms/${encodeURIComponent(id)}/broadcasts`);
  if (!there.length) { stage.replaceChildren(empty(t("room.noSession"))); return; }
  sessions.replaceChildren(...there.map((one) => option(one.id, `${shortStamp(one.started_at)} · ${clock(one.duration_s)}`)));
  const asked = given.get("broadcast");
  const first = there.some((one) => one.id === asked) ? asked : there[0].id;
  sessions.value = first;
  await show(first, Number(given.get("t")) || 0);
}

async function show(which, at = 0) {
  try {
    let page = await get(`/broadcasts/${encodeURIComponent(which)}/timeline${query({ limit: 1000 })}`);
    ({ broadcast, violations } = page);
    observations = page.observations;
    for (let turn = 0; page.next_cursor && turn < 20; turn += 1) {
      page = await get(`/broadcasts/${encodeURIComponent(which)}/timeline${query({ limit: 1000, cursor: page.next_cursor })}`);
      observations.push(...page.observations);
    }
  } catch (error) { fail(error); return; }
  length = Math.max(broadcast.duration_s, 1, ...observations.map((one) => one.end));
  if (broadcast.media_url) {
    stage.replaceChildren(video);
    if (video.dataset.of !== which) { video.dataset.of = which; video.src = broadcast.media_url; }
    if (at) video.addEventListener("loadedmetadata", () => { video.currentTime = at; }, { once: true });
  } else stage.replaceChildren(empty(t("room.noMedia"), muted(t("room.noMedia.why"))));
  draw();
  if (at) seek(at, false);
}

const WIDTH = 1200;
const LANES = [["speech", 14], ["screen", 14], ["violation", 18]];

function draw() {
  const x = (second) => (second / length) * WIDTH;
  const top = { speech: 4, screen: 24, violation: 44 };
  const items = [];
  for (const one of observations) {
    const lane = one.channel === "speech" ? "speech" : one.channel === "gap" ? "gap" : "screen";
    if (lane === "gap") items.push(s("rect", { class: "l-gap", x: x(one.start), y: 0, width: Math.max(2, x(one.end) - x(one.start)), height: 66 }, s("title", {}, t("case.gap", { seconds: (one.end - one.start).toFixed(1) }))));
    else if (lane === "speech" || one.end - one.start < length * 0.6) items.push(lane === "screen" ? s("rect", { class: "l-shown", x: x(one.start), y: top.screen, width: 2, height: 14 }) : null, s("rect", { class: `l-${lane}`, x: x(one.start), y: top[lane], width: Math.max(1.5, x(one.end) - x(one.start) - 0.8), height: 14, rx: 1.5 }, s("title", {}, `${clock(one.start)} ${one.text}`)));
  }
  for (const one of violations) items.push(s("rect", { class: `l-violation s-${one.severity}`, x: x(one.start), y: top.violation, width: Math.max(4, x(Math.min(one.end, one.start + 12)) - x(one.start)), height: 18, rx: 1.5 }, s("title", {}, `${clock(one.start)} ${one.quote}`)));
  const step = [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200].find((size) => length / size <= (innerWidth < 760 ? 6 : 12)) ?? 14400;
  const ticks = [];
  for (let second = 0; second <= length * 0.97; second += step) ticks.push(h("span", { vars: { "--at": second / length } }, clock(second)));
  drawn = s("line", { class: "l-head", x1: 0, x2: 0, y1: 0, y2: 66 });
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} 66`, preserveAspectRatio: "none", class: "timeline", role: "slider", tabindex: 0, "aria-label": t("room.timeline"), "aria-valuemin": 0, "aria-valuemax": Math.round(length), "aria-valuenow": 0,
    onclick: (event) => { const box = picture.getBoundingClientRect(); seek(((event.clientX - box.left) / box.width) * length); },
    onkeydown: (event) => { if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); event.stopPropagation(); seek(video.currentTime + (event.key === "ArrowLeft" ? -5 : 5)); } } }, items.filter(Boolean), drawn);
  lanes.replaceChildren(h("div", { class: "lane-names", "aria-hidden": "true" }, LANES.map(([name, height]) => h("span", { vars: { height: `${height + 6}px` } }, t(`lane.${name}`)))), h("div", { class: "lane-picture" }, picture, h("div", { class: "ticks", "aria-hidden": "true" }, ticks)));

  const at = new Map();
  for (const one of violations) for (const line of observations) if (line.channel === one.channel && (line.channel !== "screen" || holds(line.text, one.quote)) && line.end > one.start - 0.05 && line.start < one.end + 0.05) at.set(line.id, [...(at.get(line.id) ?? []), one]);
  list.replaceChildren(...observations.filter((one) => one.channel === "speech" || one.channel === "gap" || at.has(one.id) || one.end - one.start < length * 0.6).map((one) => h("li", { class: `${one.channel} ${at.has(one.id) ? "touching" : ""}`, "data-start": one.start, "data-end": one.end },
    h("button", { type: "button", class: "at num", onclick: () => seek(one.start) }, clock(one.start)),
    one.channel === "speech" ? null : h("span", { class: "channel" }, t(`channel.${one.channel}`)),
    h("span", { class: "text" }, markedText(one.text, at.get(one.id) ?? [])))));
  found.replaceChildren(...(violations.length ? violations.map((one) => h("li", {},
    h("button", { type: "button", class: "at num", onclick: () => seek(one.start - 1) }, clock(one.start)), severity(one.severity),
    h("a", { class: "found-link", href: `/violations/${one.id}` }, h("b", {}, one.quote || one.rule_title), h("span", { class: "sub" }, word("categories", one.category))),
    disposition(one.disposition), statusTag(one.status))) : [h("li", {}, muted(t("check.clean")))]));
}

/** Much stands on a screen at once; the words tell which of it is meant. */
function holds(text, quote) {
  const [all, part] = [text, quote].map((one) => one.replace(/\s+/g, ""));
  return !part || all.includes(part) || (all && part.includes(all));
}

function markedText(text, inside) {
  for (const one of inside) {
    const place = one.quote ? text.indexOf(one.quote) : -1;
    if (place >= 0) return [text.slice(0, place), h("mark", { class: "fault" }, one.quote), text.slice(place + one.quote.length)];
  }
  return text;
}

function seek(second, play = true) {
  const to = Math.max(0, Math.min(second, length));
  if (video.src) { video.currentTime = to; if (play) video.play().catch(() => {}); }
  follow(to);
}

let now = null;
function follow(second) {
  drawn?.setAttribute("x1", (second / length) * WIDTH);
  drawn?.setAttribute("x2", (second / length) * WIDTH);
  lanes.querySelector("svg")?.setAttribute("aria-valuenow", Math.round(second));
  lanes.querySelector("svg")?.setAttribute("aria-valuetext", clock(second));
  const line = [...list.children].findLast((one) => one.classList.contains("speech") && Number(one.dataset.start) <= second + 0.05);
  if (line && line !== now) {
    now?.classList.remove("now");
    line.classList.add("now");
    now = line;
    const box = list.parentElement;
    const top = line.offsetTop;
    if (top < box.scrollTop + 30 || top > box.scrollTop + box.clientHeight - 60) box.scrollTop = Math.max(0, top - box.clientHeight / 2);
  }
}
video.addEventListener("timeupdate", () => follow(video.currentTime));

function nextFound(by) {
  const times = violations.map((one) => one.start).sort((a, b) => a - b);
  const at = video.currentTime + 1.05;
  const next = by > 0 ? times.find((one) => one > at + 0.2) : times.findLast((one) => one < at - 1.5);
  if (next !== undefined) seek(next - 1);
}
bind("room", "play.toggle", "Space", () => (video.paused ? video.play().catch(() => {}) : video.pause()));
bind("room", "play.back", "ArrowLeft", () => seek(video.currentTime - 2, false));
bind("room", "play.forward", "ArrowRight", () => seek(video.currentTime + 2, false));
bind("room", "room.nextFound", "j", () => nextFound(1));
bind("room", "room.previousFound", "k", () => nextFound(-1));
bind("room", "room.back", "Escape", () => location.assign("/rooms"));

let due = 0;
const refresh = (data) => {
  if (data.room !== undefined && data.room !== id) return;
  if (data.room === undefined && data.id !== id) return;
  clearTimeout(due);
  due = setTimeout(() => show(sessions.value), 1200);
};
listen({ "violation.new": refresh, "violation.updated": refresh, "room.heard": refresh });
start().catch((error) => { fail(error); if (error.status === 404) main.replaceChildren(empty(error.message)); });
