// The service: `/v1/system` and `/v1/me` are asked, and what is unsafe, how it fares, what judges and what it was told go out as cards.

import { ask } from "../api";
import { bytes, h } from "../dom";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import { findings } from "./findings";
import { health } from "./health";
import { settingsCards } from "./setting_cards";
import { percent } from "./words";
import type { Me, System } from "./wire";

const LOOK_MS = 15_000;

export function service(place: HTMLElement, me: Me): void {
  const lost = h("div", { role: "alert" });
  const faring = h("div");
  const rest = h("div", { class: "service" });
  let timer = 0;
  place.append(lost, rest);
  void look();
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && rest.childElementCount) void look();
  });

  // The numbers change by themselves; all else is what the service was started with.
  async function look(): Promise<void> {
    clearTimeout(timer);
    try {
      const system = await ask<System>("/v1/system");
      lost.replaceChildren();
      faring.replaceChildren(health(system));
      if (!rest.childElementCount) {
        rest.append(faring, findings(system), model(system), tenant(me), ...settingsCards(system.settings));
      }
    } catch (problem) {
      lost.replaceChildren(problemCard(problem, { again: () => void look() }));
    }
    // Whoever looks elsewhere is not shown anything.
    if (!document.hidden) timer = window.setTimeout(() => void look(), LOOK_MS);
  }
}

function model({ model: net, version, replica }: System): HTMLElement {
  return h("section", { class: "card" }, h("h2", {}, text.service.model),
    h("p", {}, fill(text.service.threshold_says, { threshold: net.threshold.toFixed(3), doubt: net.doubt_threshold.toFixed(3), share: percent(net.target_fpr) })),
    h("dl", {},
      h("dt", {}, text.service.threshold), h("dd", {}, net.threshold.toFixed(3)),
      h("dt", {}, text.service.target), h("dd", {}, percent(net.target_fpr)),
      h("dt", {}, text.service.model), h("dd", {}, `${net.name} ${net.version}`),
      h("dt", {}, text.service.calibration), h("dd", {}, h("code", {}, net.calibration_id)),
      h("dt", {}, text.service.weights), h("dd", {}, h("code", {}, net.weights_sha256)),
      h("dt", {}, text.service.crop), h("dd", {}, String(net.crop_version)),
      h("dt", {}, text.service.version), h("dd", {}, version),
      h("dt", {}, text.service.replica), h("dd", {}, h("bdi", {}, replica))));
}

function tenant({ tenant: name, used, limits }: Me): HTMLElement {
  const share = (label: string, have: number, most: number, words: (n: number) => string): HTMLElement =>
    h("div", { class: "share" }, h("p", { class: "split" }, h("span", {}, label), h("span", { class: "fine" }, fill(text.service.of, { have: words(have), most: words(most) }))),
      h("progress", { max: most, value: Math.min(have, most), "aria-label": label }));
  return h("section", { class: "card" }, h("h2", {}, text.service.tenant, " ", h("bdi", {}, name)),
    share(text.service.unfinished, used.unfinished_analyses, limits.unfinished_analyses, (n) => n.toLocaleString()),
    share(text.service.kept, used.kept_bytes, limits.kept_bytes, bytes));
}
