// What was said of an analysis: reviews come in, a list of who, when and why goes out, oldest first. Nothing in it can be changed.

import { h, probability } from "../dom";
import { fill, named, text } from "../text";
import type { Review, Reviews } from "./wire";

export const decisionWord = (review: Pick<Review, "decision">): string => (review.decision === null ? text.desk.skipped : text.decisions[review.decision]);

export const reasonWord = (review: Pick<Review, "decision" | "reason">): string =>
  named(review.decision === null ? text.skip_reasons : text.decision_reasons, review.reason);

export const when = (iso: string): HTMLTimeElement =>
  h("time", { datetime: iso }, new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));

export function history({ reviews, sealed }: Reviews): HTMLElement {
  return h("section", { class: "desk-history" },
    h("h3", {}, text.desk.history),
    h("ol", {}, reviews.map(entry), !reviews.length && !sealed && h("li", { class: "nothing" }, text.desk.nothing_said)),
    sealed > 0 && h("p", { class: "desk-sealed" }, fill(sealed === 1 ? text.desk.sealed_one : text.desk.sealed, { n: sealed })),
    disagreement(reviews));
}

function entry(review: Review): HTMLElement {
  const service = fill(text.desk.service_said, { verdict: named(text.states, review.verdict), p: probability(review.p) });
  return h("li", { class: `desk-entry ${review.decision ?? "skip"}` },
    h("p", {}, h("b", {}, decisionWord(review)), ` ${fill(text.desk.by, { who: review.reviewer, role: text.review_roles[review.role] })}`, review.mine && ` (${text.desk.you})`, ", ", when(review.at)),
    h("p", {}, reasonWord(review)),
    review.note && h("blockquote", {}, review.note),
    h("p", { class: "fine" }, service));
}

// Told only once both are in: before that, nobody but its author has the first one.
function disagreement(reviews: Review[]): HTMLElement | null {
  const second = reviews.findLast((one) => one.role === "second");
  const first = reviews.findLast((one) => one.role === "first");
  if (!first || !second) return null;
  const same = first.decision === second.decision;
  const values = { first: first.reviewer, second: second.reviewer, one: decisionWord(first), other: decisionWord(second) };
  return h("p", { class: same ? "desk-agree" : "desk-disagree" }, fill(same ? text.desk.agree : text.desk.disagree, values));
}
