// A clip that plays round and round at the moment, with the moment marked on its strip.

import { clock, h, store, t } from "./core.js";

const AROUND_S = 1.6;
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

export class Player {
  /** `heard(second)` is told where on the media clock the clip is. */
  constructor({ heard } = {}) {
    this.heard = heard;
    this.loop = store.get("loop", true);
    this.video = h("video", { playsInline: true, preload: "auto", tabIndex: -1, "aria-label": t("case.clip") });
    this.part = h("span", { class: "strip-moment" });
    this.head = h("span", { class: "strip-head" });
    this.strip = h("div", { class: "strip", role: "slider", tabIndex: 0, "aria-label": t("play.seek"), "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, onpointerdown: (event) => this.#drag(event), onkeydown: (event) => this.#keyed(event) }, this.part, this.head);
    this.clock = h("span", { class: "num" });
    this.playing = this.#button("play.toggle", () => this.toggle());
    this.looping = this.#button("play.loop", () => this.toggleLoop());
    this.sound = this.#button("play.sound", () => this.toggleSound());
    this.rate = this.#button("play.faster", () => this.speed(1));
    this.element = h("figure", { class: "player" }, this.video, this.strip,
      h("figcaption", {}, this.playing, this.looping, this.sound, this.rate, h("span", { class: "push" }), this.clock));
    this.video.addEventListener("loadedmetadata", () => this.#ready());
    this.video.addEventListener("timeupdate", () => this.#ticked());
    this.video.addEventListener("click", () => this.toggle());
    for (const name of ["play", "pause", "volumechange", "ratechange"]) this.video.addEventListener(name, () => this.#buttons());
    this.video.addEventListener("ended", () => { if (this.loop) this.moment(); });
    this.#buttons();
  }

  /** Show `url`, whose first frame is `begin` on the media clock, and loop `start`..`end`. */
  show(url, begin, start, end) {
    this.begin = begin;
    this.start = start;
    this.end = Math.max(end, start + 0.4);
    if (this.url === url) { this.#ready(); return; }
    this.url = url;
    this.video.src = url;
  }

  stop() {
    this.url = "";
    this.video.removeAttribute("src");
    this.video.load();
  }

  #button(name, run) { return h("button", { type: "button", class: "ghost", onclick: run, title: t(`key.${name}`), "aria-label": t(`key.${name}`) }); }

  #ready() {
    const length = this.video.duration || 1;
    const from = this.#inClip(this.start);
    const to = this.#inClip(this.end);
    this.part.style.setProperty("--from", from / length);
    this.part.style.setProperty("--to", to / length);
    this.strip.setAttribute("aria-valuemax", Math.round(length));
    this.moment();
  }

  #inClip(second) { return Math.min(Math.max(0, second - this.begin), this.video.duration || Infinity); }

  /** Play from a moment before the words; without sound where the browser wants a click first. */
  async moment() {
    this.video.currentTime = Math.max(0, this.#inClip(this.start) - AROUND_S);
    try { await this.video.play(); } catch (error) {
      if (error.name !== "NotAllowedError") return;
      this.video.muted = true;
      await this.video.play().catch(() => {});
    }
  }

  #ticked() {
    const now = this.video.currentTime;
    const length = this.video.duration || 1;
    this.head.style.setProperty("--at", now / length);
    this.strip.setAttribute("aria-valuenow", Math.round(now));
    this.strip.setAttribute("aria-valuetext", clock(this.begin + now, true));
    this.clock.textContent = clock(this.begin + now, true);
    this.heard?.(this.begin + now);
    if (this.loop && !this.video.paused && !this.dragging) {
      const over = Math.min(this.#inClip(this.end) + AROUND_S, length - 0.05);
      if (now >= over && now < over + 1) this.video.currentTime = Math.max(0, this.#inClip(this.start) - AROUND_S);
    }
  }

  #buttons() {
    this.playing.textContent = this.video.paused ? "▶" : "❚❚";
    this.looping.textContent = "⟲";
    this.looping.setAttribute("aria-pressed", this.loop);
    this.sound.textContent = this.video.muted ? t("play.muted") : t("play.loud");
    this.sound.setAttribute("aria-pressed", !this.video.muted);
    this.rate.textContent = `${this.video.playbackRate}×`;
  }

  #drag(event) {
    const seek = (one) => {
      const box = this.strip.getBoundingClientRect();
      this.video.currentTime = Math.min(1, Math.max(0, (one.clientX - box.left) / box.width)) * (this.video.duration || 0);
    };
    this.dragging = true;
    this.strip.setPointerCapture(event.pointerId);
    seek(event);
    this.strip.onpointermove = seek;
    this.strip.onpointerup = () => { this.strip.onpointermove = null; this.dragging = false; };
  }

  #keyed(event) {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); event.stopPropagation(); this.skip(event.key === "ArrowLeft" ? -1 : 1); }
  }

  seek(second) {
    const at = second - this.begin;
    if (at >= -0.5 && at <= (this.video.duration || 0)) { this.video.currentTime = Math.max(0, at); this.video.play().catch(() => {}); }
  }

  toggle() { if (this.video.paused) this.video.play().catch(() => {}); else this.video.pause(); }
  skip(by) { this.video.currentTime = Math.max(0, this.video.currentTime + by); }
  toggleLoop() { this.loop = !this.loop; store.set("loop", this.loop); this.#buttons(); }
  toggleSound() { this.video.muted = !this.video.muted; }
  speed(by) {
    const at = SPEEDS.indexOf(this.video.playbackRate);
    this.video.playbackRate = SPEEDS[(at + by + SPEEDS.length) % SPEEDS.length];
  }
}
