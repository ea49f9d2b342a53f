// How it ended: the last event of a stream comes in, a card with the verdict and what could be judged goes out.

import { chip, h } from "../dom.js";
import { coverage, measure } from "../result.js";

export function verdictCard({ verdict, reason: why, totals }, missed) {
  const head = verdict
    ? [h("p", { class: "file" }, chip({ status: "succeeded", verdict: verdict.verdict })), h("h2", { class: "sentence", tabindex: "-1" }, verdict.sentence), measure(verdict)]
    : [h("h2", { class: "sentence", tabindex: "-1" }, "There is no verdict"), h("p", {}, "The nets failed before anything could be judged.")];
  return h("article", { class: `result ${verdict?.verdict ?? ""}` },
    h("header", { class: "verdict" }, head,
      why === "draining" && h("p", { class: "notice" }, "The service stopped meanwhile; this is about what it had seen until then."),
      why === "idle" && h("p", { class: "notice" }, "No pictures came for too long; this is about those that did."),
      h("p", { class: "fine" }, `${totals.looked_at} looks. It is not stored: leave or start again, and it is gone.`)),
    verdict && coverage(verdict),
    missed.length > 0 && h("section", { class: "card" }, h("h2", {}, "Not looked at"), h("ul", { class: "live-missed" }, missed.map((words) => h("li", {}, words)))));
}
