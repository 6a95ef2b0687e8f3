// Recordings sent in pieces: an upload goes on after a reload, and shows how far it is.

import { api, bytes, clock, get, h, muted, post, t, tried, toast, ago } from "./core.js";

const PIECE = 4 << 20;
const KEPT_BYTES = 1 << 30;
const ACCEPT = ".mp4,.m4v,.mov,.mkv,.webm,.flv,.ts,.m2ts,.avi,.mp3,.m4a,.aac,.wav,.flac,.ogg,.opus";

/** Files of unfinished uploads, kept by the browser until they are sent. */
const shelf = {
  async open() {
    return new Promise((resolve, reject) => {
      const asked = indexedDB.open("moderator", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("files");
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  },
  async do(mode, run) {
    try {
      const db = await this.open();
      return await new Promise((resolve, reject) => {
        const asked = run(db.transaction("files", mode).objectStore("files"));
        asked.onsuccess = () => resolve(asked.result);
        asked.onerror = () => reject(asked.error);
      });
    } catch { return undefined; }
  },
  put(id, file) { return file.size <= KEPT_BYTES ? this.do("readwrite", (files) => files.put(file, id)) : undefined; },
  get(id) { return this.do("readonly", (files) => files.get(id)); },
  drop(id) { return this.do("readwrite", (files) => files.delete(id)); },
};

export class Uploads {
  constructor({ products }) {
    this.products = products;
    this.jobs = [];
    this.sending = new Set();
    this.input = h("input", { type: "file", accept: ACCEPT, hidden: true, id: "recording", onchange: () => { for (const file of this.input.files) this.add(file); this.input.value = ""; } });
    this.resume = h("input", { type: "file", accept: ACCEPT, hidden: true, onchange: () => this.#resumeWith(this.resume.files[0]) });
    this.list = h("ul", { class: "jobs" });
    this.element = h("section", { class: "uploads", "aria-label": t("upload.title"),
      ondragover: (event) => { event.preventDefault(); this.element.classList.add("over"); },
      ondragleave: () => this.element.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); this.element.classList.remove("over"); for (const file of event.dataTransfer.files) this.add(file); } },
    h("div", { class: "bar" }, h("h2", {}, t("upload.title")), muted(t("upload.hint")), h("span", { class: "push" }),
      h("button", { type: "button", onclick: () => this.input.click() }, t("upload.choose")), this.input, this.resume),
    this.list);
  }

  /** Show the uploads there are, and go on with those that were cut off. */
  async start() {
    await this.refresh();
    for (const job of this.jobs.filter((one) => one.state === "uploading")) {
      const file = await shelf.get(job.id);
      if (file && file.size === job.size_bytes) this.send(job, file);
    }
  }

  async refresh() {
    this.jobs = await get("/jobs");
    this.#draw();
    clearTimeout(this.timer);
    if (this.jobs.some((one) => ["queued", "running"].includes(one.state))) this.timer = setTimeout(() => tried(() => this.refresh()), 1500);
  }

  async add(file) {
    const job = await tried(() => post("/jobs", { name: file.name, size_bytes: file.size, products: this.products() }));
    if (!job) return;
    this.jobs.unshift(job);
    this.#draw();
    await shelf.put(job.id, file);
    this.send(job, file);
  }

  async send(job, file) {
    if (this.sending.has(job.id)) return;
    this.sending.add(job.id);
    let wait = 1000;
    while (job.state === "uploading") {
      try {
        const piece = file.slice(job.received_bytes, job.received_bytes + PIECE);
        Object.assign(job, await api("PATCH", `/jobs/${job.id}/content`, piece, { headers: { "Upload-Offset": job.received_bytes, "Content-Type": "application/octet-stream" } }));
        wait = 1000;
      } catch (error) {
        if (error.code === "LM-919" || error.status === 409) Object.assign(job, await get(`/jobs/${job.id}`).catch(() => job));
        else if (error.status === 0 || error.status >= 500) { await new Promise((done) => setTimeout(done, wait)); wait = Math.min(30000, wait * 2); }
        else { toast(error.message, { kind: "bad" }); break; }
      }
      this.#draw();
    }
    this.sending.delete(job.id);
    await shelf.drop(job.id);
    tried(() => this.refresh());
  }

  #resumeWith(file) {
    this.resume.value = "";
    const job = this.jobs.find((one) => one.id === this.resuming);
    if (!file || !job) return;
    if (file.size !== job.size_bytes) { toast(t("upload.other", { name: job.name }), { kind: "bad" }); return; }
    shelf.put(job.id, file);
    this.send(job, file);
  }

  #draw() { this.list.replaceChildren(...this.jobs.slice(0, 12).map((job) => this.#job(job))); }

  #job(job) {
    const sent = job.size_bytes ? job.received_bytes / job.size_bytes : 0;
    const part = job.state === "uploading" ? sent : job.progress;
    const busy = ["uploading", "queued", "running"].includes(job.state);
    const errorText = job.error ? job.error[document.documentElement.lang.startsWith("zh") ? "zh" : "en"] : "";
    return h("li", { class: `job j-${job.state}`, "data-job": job.id },
      h("span", { class: "job-name" }, job.name, muted(` ${bytes(job.size_bytes)} · ${ago(job.created_at)}`)),
      h("span", { class: "tag" }, t(`upload.${job.state}`)),
      busy ? h("progress", { max: 1, value: part, "aria-label": `${job.name}: ${t(`upload.${job.state}`)}` }) : null,
      busy ? h("span", { class: "num muted" }, job.state === "running" && job.total_s ? `${clock(job.done_s)} / ${clock(job.total_s)}` : `${Math.round(part * 100)}%`) : null,
      job.state === "done" ? h("a", { class: "link", href: `/rooms/${encodeURIComponent(job.room_id || "local")}?broadcast=${encodeURIComponent(job.broadcast_id)}` }, t("upload.found", { count: job.summary?.total ?? 0 })) : null,
      errorText ? h("span", { class: "bad" }, errorText) : null,
      job.state === "uploading" && !this.sending.has(job.id) ? h("button", { type: "button", class: "link", onclick: () => { this.resuming = job.id; this.resume.click(); } }, t("upload.resume")) : null,
      busy ? h("button", { type: "button", class: "link", onclick: () => this.#cancel(job) }, t("cancel")) : null);
  }

  async #cancel(job) {
    if (await tried(() => api("DELETE", `/jobs/${job.id}`))) { await shelf.drop(job.id); await this.refresh(); }
  }
}
