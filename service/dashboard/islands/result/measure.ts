// How sure: a judgement comes in, its probability with interval and threshold goes out, or why there is none. Also below a live stream.

import { h, probability, reason, s } from "../dom";
import { fill, text } from "../text";
import type { Judgement, Score } from "../wire";

type Judged = { [K in keyof Score]: Exclude<Score[K], null> };

const isJudged = (score: Score): score is Judged => score.p !== null && score.low !== null && score.high !== null;

export function measure({ score, threshold, threshold_version: version, target_fpr: rate, reasons }: Judgement): HTMLElement {
  if (!isJudged(score)) {
    return h("p", { class: "number" }, text.result.no_p, reasons.length ? ` (${reasons.map(reason).join(", ")})` : "");
  }
  const values = { low: score.low.toFixed(2), high: score.high.toFixed(2), threshold: threshold.toFixed(2), rate: +(rate * 100).toFixed(2) };
  return h("div", { class: "measure" }, gauge(score, threshold),
    h("p", { class: "number" }, h("b", {}, probability(score.p)), ` ${fill(version ? text.result.interval_chosen : text.result.interval, values)}`));
}

function gauge(score: Judged, threshold: number): SVGElement {
  const x = (p: number): string => (p * 300).toFixed(1);
  const label = fill(text.result.gauge, { p: probability(score.p), threshold: threshold.toFixed(2) });
  return s("svg", { class: "gauge", viewBox: "-6 0 312 26", role: "img", "aria-label": label },
    s("rect", { class: "track", x: 0, y: 9, width: 300, height: 6, rx: 3 }),
    s("rect", { class: "interval", x: x(score.low), y: 9, width: Math.max((score.high - score.low) * 300, 2), height: 6, rx: 3 }),
    s("path", { class: "limit", d: `M${x(threshold)} 3v18` }),
    s("circle", { class: "dot", cx: x(score.p), cy: 12, r: 6 }));
}
