// The wall: every room, live and risky ones first.

import { ago, api, ask, dialog, empty, get, h, loadMeta, main, may, muted, option, percent, post, t, toast, tried, debounced } from "./core.js";
import { bind, bindCommon, hint } from "./keys.js";
import { listen } from "./events.js";

const LIVE = new Set(["connecting", "live", "stalled", "reconnecting"]);
const PLATFORMS = ["douyin", "taobao", "kuaishou", "wechat", "xiaohongshu", "jd"];

await loadMeta();
bindCommon();

const grid = h("ul", { class: "wall" });
const demo = h("button", { type: "button", id: "demo-live", hidden: true, onclick: playDemo }, t("rooms.demo"));
const summary = h("p", { class: "muted", role: "status" });
main.append(h("div", { class: "page wide" }, h("div", { class: "bar wall-bar" }, h("h1", {}, t("nav.rooms")), summary, h("span", { class: "push" }), demo,
  may("rooms:watch") ? h("button", { type: "button", class: "primary", id: "new-room", onclick: create }, t("rooms.new"), " ", hint("rooms.new") || h("kbd", {}, "a")) : null), grid));

let rooms = [];
const beats = new Map();

async function load() {
  rooms = await get("/rooms");
  draw();
}

function draw() {
  const live = rooms.filter((one) => LIVE.has(one.state)).length;
  summary.textContent = t("rooms.summary", { live, all: rooms.length, open: rooms.reduce((sum, one) => sum + one.open, 0) });
  demo.hidden = live > 0 || !may("users:manage");
  grid.replaceChildren(...(rooms.length ? rooms.map(card) : [h("li", { class: "full" }, empty(t("rooms.none"), muted(t("rooms.none.more"))))]));
}

function card(room) {
  const live = LIVE.has(room.state);
  const picture = room.last_frame_url
    ? h("img", { src: `${room.last_frame_url}?${beats.get(room.id) ?? 0}`, alt: "", loading: "lazy" })
    : h("span", { class: "no-frame" }, t("rooms.noFrame"));
  return h("li", { class: `room-card ${live ? "live-room" : ""} ${room.risk >= 0.7 && room.recent ? "hot" : ""}`, "data-room": room.id },
    h("a", { class: "room-link", href: `/rooms/${encodeURIComponent(room.id)}` },
      h("span", { class: "thumb" }, picture, h("span", { class: `room-state rs-${room.state}` }, t(`room.state.${room.state}`))),
      h("span", { class: "room-text" },
        h("b", { class: "room-title" }, room.title || room.id),
        h("span", { class: "muted" }, [room.host, room.platform && t(`platform.${room.platform}`), room.ai_host ? t("rooms.ai") : ""].filter(Boolean).join(" · ")),
        h("span", { class: "last-words" }, room.last_words || "–"),
        h("span", { class: "figures" },
          h("span", {}, h("b", { class: room.open ? "bad" : "" }, room.open), " ", t("rooms.open")),
          h("span", {}, h("b", {}, room.recent), " ", t("rooms.recent")),
          live && room.lag_s !== null ? h("span", { class: room.lag_s > 5 ? "warn" : "" }, h("b", {}, `${room.lag_s.toFixed(1)}s`), " ", t("rooms.lag")) : room.heard_at ? h("span", { class: "muted" }, ago(room.heard_at)) : null),
        h("span", { class: "risk", role: "img", "aria-label": `${t("queue.risk")} ${percent(room.risk)}`, vars: { "--part": room.risk } }))),
    room.state_reason && !live ? h("p", { class: "bad room-why" }, room.state_reason) : null,
    may("rooms:watch") ? h("p", { class: "room-acts" },
      room.watching ? h("button", { type: "button", class: "link", onclick: () => stop(room) }, t("rooms.stop")) : h("button", { type: "button", class: "link", onclick: () => watch(room) }, t("rooms.watch"))) : null);
}

/** A room that is not known yet, and at once its stream. */
async function create() {
  const made = await dialog(t("rooms.new"), (close) => {
    const input = (id, props = {}) => h("input", { id: `room-${id}`, maxLength: 200, ...props });
    const source = input("source", { required: true, maxLength: 2000, type: "url", placeholder: "https://… · rtmp://…", "data-first": "" });
    const [title, host, merchant] = ["title", "host", "merchant"].map((one) => input(one));
    const id = input("id", { required: true, maxLength: 100, pattern: "[\\w.\\-]+", value: `room-${Date.now().toString(36).slice(-6)}`, class: "mono" });
    const platform = h("select", { id: "room-platform" }, option("", "–", true), PLATFORMS.map((one) => option(one, t(`platform.${one}`))));
    const field = (element, key) => h("label", { class: "field", htmlFor: element.id }, h("span", {}, t(key)), element);
    const send = async (event) => {
      event.preventDefault();
      const room = await tried(() => post("/rooms", { id: id.value.trim(), title: title.value.trim(), host: host.value.trim(), merchant: merchant.value.trim(), platform: platform.value }));
      if (room) close({ room, source: source.value.trim() });
    };
    return h("form", { onsubmit: send }, field(source, "rooms.source"), h("div", { class: "pair" }, field(title, "rooms.title"), field(host, "rooms.host")),
      h("div", { class: "pair" }, field(merchant, "rooms.merchant"), field(platform, "rooms.platform")), field(id, "rooms.id"),
      h("footer", { class: "form-foot" }, h("button", { class: "primary" }, t("rooms.watch"))));
  });
  if (!made) return;
  if (await tried(() => post(`/rooms/${encodeURIComponent(made.room.id)}/watch`, { source: made.source }))) toast(t("rooms.watching"), { kind: "good" });
  await tried(load);
}

/** Play a sample room as if it were live, for a first look at the wall. */
async function playDemo() {
  demo.disabled = true;
  if (await tried(() => post("/demo?live=true"))) toast(t("rooms.demo.on"));
}

async function watch(room) {
  const source = await ask(t("rooms.watch"), { label: t("rooms.source"), value: "", rows: 1, ok: t("rooms.watch"), hint: t("rooms.source.hint") });
  if (source && await tried(() => post(`/rooms/${encodeURIComponent(room.id)}/watch`, { source }))) { toast(t("rooms.watching")); load(); }
}

async function stop(room) {
  if (await tried(() => api("DELETE", `/rooms/${encodeURIComponent(room.id)}/watch`))) load();
}

const again = debounced(() => tried(load), 500);
const patch = (data, change) => {
  const room = rooms.find((one) => one.id === data.id);
  if (!room) { again(); return; }
  change(room);
  beats.set(room.id, Math.floor(Date.now() / 2000));
  const old = grid.querySelector(`[data-room="${CSS.escape(room.id)}"]`);
  if (old && !old.contains(document.activeElement)) old.replaceWith(card(room));
};
listen({
  "room.updated": () => again(),
  "room.heard": (data) => patch(data, (room) => { room.last_words = data.last_words; room.heard_at = data.at; }),
  "violation.new": () => again(),
  "violation.updated": () => again(),
}, { away: again });

function move(by) {
  const links = [...grid.querySelectorAll(".room-link")];
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}
const focused = () => rooms.find((one) => one.id === document.activeElement?.closest?.("[data-room]")?.dataset.room);
if (may("rooms:watch")) {
  bind("room", "rooms.new", "a", create);
  bind("room", "rooms.toggle", "w", () => { const room = focused(); if (room) (room.watching ? stop : watch)(room); });
}
bind("room", "rooms.next", ["j", "ArrowRight"], () => move(1));
bind("room", "rooms.previous", ["k", "ArrowLeft"], () => move(-1));
await tried(load);
setInterval(() => tried(load), 30000);
