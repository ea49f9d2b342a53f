// How it ended: the last event of a stream comes in, a card with the verdict and what could be judged goes out.

import { chip, h } from "../dom";
import { coverage } from "../result/coverage";
import { measure } from "../result/measure";
import { fill, text } from "../text";
import type { End } from "./events";

export function verdictCard({ verdict, reason: why, totals }: End, missed: string[]): HTMLElement {
  const head = verdict
    ? [h("p", { class: "file" }, chip({ status: "succeeded", verdict: verdict.verdict })), h("h2", { class: "sentence", tabindex: "-1" }, verdict.sentence), measure(verdict)]
    : [h("h2", { class: "sentence", tabindex: "-1" }, text.live.no_verdict), h("p", {}, text.live.nets_failed)];
  return h("article", { class: `result ${verdict?.verdict ?? ""}` },
    h("header", { class: "verdict" }, head,
      why === "draining" && h("p", { class: "notice" }, text.live.was_draining),
      why === "idle" && h("p", { class: "notice" }, text.live.was_idle),
      h("p", { class: "fine" }, fill(text.live.not_stored, { n: totals.looked_at }))),
    verdict && coverage(verdict),
    missed.length > 0 && h("section", { class: "card" }, h("h2", {}, text.live.not_looked_at), h("ul", { class: "live-missed" }, missed.map((words) => h("li", {}, words)))));
}
