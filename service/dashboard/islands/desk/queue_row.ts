// One line of the queue, or of what was said: an item of `/v1/reviews` comes in, a row of a table goes out.

import { chip, h, probability, s } from "../dom";
import { fill, named, text } from "../text";
import { decisionWord, reasonWord, when } from "./history";
import type { LoggedReview, ReviewItem } from "./wire";

const BAR = 60;

export function queueRow(item: ReviewItem): HTMLTableRowElement {
  const { analysis, severity } = item;
  return h("tr", { class: item.lock && !item.lock.mine ? "taken" : null },
    h("td", { class: "name" },
      h("a", { href: `/analyses/${analysis.id}`, "data-id": analysis.id, class: "ellipsis" }, analysis.filename ?? analysis.external_id ?? text.queue.unnamed),
      h("span", { class: "what" }, chip(analysis), analysis.p !== null && ` p ${probability(analysis.p)}`)),
    h("td", { class: `severity ${severity.level}`, "data-name": text.queue.severity },
      s("svg", { viewBox: `0 0 ${BAR} 8`, width: BAR, height: 8, "aria-hidden": "true" },
        s("rect", { class: "track", width: BAR, height: 8, rx: 4 }), s("rect", { class: "fill", width: Math.max(severity.value * BAR, 4).toFixed(1), height: 8, rx: 4 })),
      h("span", {}, `${text.levels[severity.level]} `, h("span", { class: "fine" }, severity.value.toFixed(2)))),
    h("td", { class: "age", "data-name": text.queue.age }, age(analysis.finished_at ?? analysis.created_at)),
    h("td", { class: "state", "data-name": text.queue.state }, stateWords(item)));
}

function stateWords({ state, lock, skips, outcome }: ReviewItem): HTMLElement {
  const word = lock ? (lock.mine ? text.queue.yours : fill(text.queue.with, { who: lock.holder })) : outcome ? fill(text.queue.decided, { what: decisionWord({ decision: outcome }) }) : named(text.item_states, state);
  const times = skips === 0 ? null : skips === 1 ? text.queue.skipped_once : fill(text.queue.skipped, { n: skips });
  return h("span", {}, word, times && h("span", { class: "fine" }, ` · ${times}`));
}

function age(iso: string): HTMLTimeElement {
  const found = h("time", { datetime: iso, title: new Date(iso).toLocaleString() });
  tell(found);
  return found;
}

// Ages go on while nothing else changes.
export const refreshAges = (root: ParentNode): void => root.querySelectorAll<HTMLTimeElement>(".age time").forEach(tell);

function tell(time: HTMLTimeElement): void {
  const passed = Math.max(0, Date.now() - new Date(time.dateTime).getTime()) / 1000;
  const [n, word] = passed < 3600 ? [passed / 60, text.queue.minutes] : passed < 172_800 ? [passed / 3600, text.queue.hours] : [passed / 86_400, text.queue.days];
  time.textContent = fill(word, { n: Math.floor(n) });
}

export function saidRow(review: LoggedReview): HTMLTableRowElement {
  const name = review.filename ?? text.queue.unnamed;
  return h("tr", {},
    h("td", { class: "name" }, h("a", { href: `/analyses/${review.analysis_id}`, class: "ellipsis" }, name)),
    h("td", { "data-name": text.queue.decision }, h("b", { class: `word ${review.decision ?? "skip"}` }, decisionWord(review)), h("span", { class: "fine" }, ` ${text.review_roles[review.role]}`)),
    h("td", { "data-name": text.desk.reason }, reasonWord(review), review.note && h("span", { class: "fine note" }, review.note)),
    h("td", { class: "said-at", "data-name": text.queue.when }, when(review.at)));
}
