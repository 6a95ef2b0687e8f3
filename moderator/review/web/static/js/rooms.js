// The wall: every room, live and risky ones first.

import { ago, api, ask, empty, get, h, loadMeta, main, may, muted, percent, post, t, toast, tried, debounced } from "./core.js";
import { bind, bindCommon } from "./keys.js";
import { listen } from "./events.js";

const LIVE = new Set(["connecting", "live", "stalled", "reconnecting"]);

await loadMeta();
bindCommon();

const grid = h("ul", { class: "wall" });
const demo = h("button", { type: "button", id: "demo-live", hidden: true, onclick: playDemo }, t("rooms.demo"));
const summary = h("p", { class: "muted", role: "status" });
main.append(h("div", { class: "page wide" }, h("div", { class: "bar wall-bar" }, h("h1", {}, t("nav.rooms")), summary, h("span", { class: "push" }), demo), grid));

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
bind("room", "rooms.next", ["j", "ArrowRight"], () => move(1));
bind("room", "rooms.previous", ["k", "ArrowLeft"], () => move(-1));
await tried(load);
setInterval(() => tried(load), 30000);
