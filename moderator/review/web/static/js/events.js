// What happens elsewhere, as it happens: one stream for the page, and whether it is there.

import { h, t } from "./core.js";

/** Listen; `handlers` maps kinds such as `violation.new` to functions of their data. */
export function listen(handlers, { away } = {}) {
  const light = document.getElementById("live");
  const show = (state) => {
    if (!light) return;
    light.hidden = false;
    light.className = `live ${state}`;
    light.replaceChildren(h("i", {}), t(`live.${state}`));
  };
  show("connecting");
  const source = new EventSource("/api/v1/events");
  let lost = false;
  source.onopen = () => {
    show("on");
    if (lost) { lost = false; away?.(); }
  };
  source.onerror = () => {
    lost = true;
    show("off");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) location.reload(); }, 15000);
  };
  source.addEventListener("reload", () => away?.());
  for (const [kind, run] of Object.entries(handlers)) {
    source.addEventListener(kind, (event) => run(JSON.parse(event.data)));
  }
  addEventListener("pagehide", () => source.close());
  return source;
}
