"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const cards = all(".card");
  const chips = all(".chip[data-group]");
  const clear = document.querySelector('[data-do="clear"]');
  const shown = document.querySelector(".shown");
  const keys = document.getElementById("keys");

  const remembered = (name, value) => {
    // Storage is refused on some file: pages; the page works without it.
    try {
      if (value !== undefined) localStorage.setItem("moderator-" + name, value);
      return localStorage.getItem("moderator-" + name);
    } catch {
      return null;
    }
  };

  const speak = (lang) => {
    root.dataset.lang = lang;
    root.lang = lang === "zh" ? "zh-CN" : "en";
    for (const item of all("[data-zh-label]")) {
      const label = item.dataset[lang + "Label"];
      item.setAttribute("aria-label", label);
      item.title = label;
    }
    tell();
  };

  const paint = (theme) => {
    if (theme) root.dataset.theme = theme;
  };

  const visible = () => cards.filter((card) => !card.hidden);

  const tell = () => {
    const some = visible().length < cards.length;
    const zh = root.dataset.lang === "zh";
    shown.textContent = some ? (zh ? "显示 " : "showing ") + visible().length + " / " + cards.length : "";
  };

  const filter = () => {
    const wanted = {};
    for (const chip of chips) {
      if (chip.getAttribute("aria-pressed") !== "true") continue;
      (wanted[chip.dataset.group] ||= new Set()).add(chip.dataset.value);
    }
    const groups = Object.entries(wanted);
    for (const card of cards) card.hidden = !groups.every(([group, values]) => values.has(card.dataset[group]));
    const on = new Set(visible().map((card) => card.id));
    for (const item of all("[data-v]")) {
      item.classList.toggle("off", !item.dataset.v.split(" ").some((id) => on.has(id)));
    }
    for (const list of all(".cards")) {
      const none = !list.querySelector(".card:not([hidden])");
      list.querySelector(".empty").hidden = !none;
    }
    clear.hidden = !groups.length;
    tell();
  };

  const press = (chip, on) => {
    chip.setAttribute("aria-pressed", String(on ?? chip.getAttribute("aria-pressed") !== "true"));
    filter();
  };

  let current = null;
  const reveal = (card, { scroll = true, focus = true } = {}) => {
    if (!card) return;
    if (card.hidden) {
      for (const chip of chips) chip.setAttribute("aria-pressed", "false");
      filter();
    }
    for (const item of all(".on")) item.classList.remove("on");
    current = card;
    card.classList.add("on");
    if (scroll) card.scrollIntoView({ block: "nearest" });
    if (focus) card.focus({ preventScroll: true });
    const spots = all(`[data-v~="${card.id}"]`);
    for (const spot of spots) {
      spot.classList.add("on");
      const row = spot.closest(".transcript li, .paper tr");
      const pane = row && row.closest(".transcript, .paper");
      if (row && row.matches("li")) row.classList.add("on");
      if (pane && spot === spots.find((item) => pane.contains(item))) {
        const offset = row.getBoundingClientRect().top - pane.getBoundingClientRect().top;
        pane.scrollTop += offset - pane.clientHeight / 3;
      }
    }
  };

  const step = (by) => {
    const list = visible();
    if (!list.length) return;
    const at = list.indexOf(current);
    const next = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + by, 0), list.length - 1);
    reveal(list[next]);
  };

  const play = (card) => {
    const video = card && card.querySelector("video");
    if (!video) return;
    if (video.paused) video.play().catch(() => {});
    else video.pause();
  };

  const acts = {
    lang: () => {
      const lang = root.dataset.lang === "zh" ? "en" : "zh";
      remembered("lang", lang);
      speak(lang);
    },
    theme: () => {
      const dark = getComputedStyle(root).colorScheme.includes("dark");
      paint(remembered("theme", dark ? "light" : "dark") || (dark ? "light" : "dark"));
    },
    print: () => window.print(),
    keys: () => (keys.open ? keys.close() : keys.showModal()),
    clear: () => {
      for (const chip of chips) chip.setAttribute("aria-pressed", "false");
      filter();
    },
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) return acts[button.dataset.do]();
    const chip = event.target.closest(".chip[data-group]");
    if (chip) return press(chip);
    const link = event.target.closest('a[href^="#v"]');
    if (link) {
      const card = document.getElementById(link.getAttribute("href").slice(1));
      reveal(card, { focus: false });
      if (link.dataset.play) play(card);
      return;
    }
    const card = event.target.closest(".card");
    if (card && !event.target.closest("summary, video, a, button")) reveal(card, { scroll: false, focus: false });
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, video")) return;
    const key = event.key.toLowerCase();
    if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "p") play(current);
    else if (key === "o" && current) {
      const parts = all("details", current);
      const open = parts.some((part) => !part.open);
      for (const part of parts) part.open = open;
    } else if (key === "l") acts.lang();
    else if (key === "t") acts.theme();
    else if (key === "?") acts.keys();
    else if (key === "0") acts.clear();
    else if ("1234".includes(key)) {
      const chip = chips.find((item) => item.dataset.value === ["critical", "high", "medium", "low"][key - 1]);
      if (chip) press(chip);
    } else return;
    event.preventDefault();
  });

  document.addEventListener(
    "play",
    (event) => {
      for (const video of all("video")) if (video !== event.target) video.pause();
    },
    true,
  );

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });

  const atHash = () => reveal(document.getElementById(location.hash.slice(1))?.closest(".card"), { focus: false });
  window.addEventListener("hashchange", atHash);

  paint(remembered("theme"));
  speak(remembered("lang") || root.dataset.lang);
  if (location.hash.startsWith("#v")) atHash();
})();
