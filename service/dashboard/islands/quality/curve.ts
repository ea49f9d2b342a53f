// The curve: what each threshold would have got wrong comes in, two lines over it with marked places, and the same as a table, go out.

import { h, s } from "../dom";
import { Table } from "../settings/table";
import { percent } from "../settings/words";
import { fill, text } from "../text";
import type { Point, Proposal } from "./wire";

const WIDTH = 560;
const HEIGHT = 160;
const words = text.quality.threshold;

const logit = (p: number): number => Math.log(p) - Math.log1p(-p);

// Thresholds near 0 or 1 differ by little, and mean much.
export const shown = (p: number): string => (p < 0.01 || p > 0.99 ? p.toFixed(4) : p.toFixed(3));

export function curve({ curve: points, genuine, manipulated, present, proposed }: Proposal): HTMLElement {
  const [from, to] = [logit(points[0]?.threshold ?? 0.001), logit(points.at(-1)?.threshold ?? 0.999)];
  const x = (threshold: number): number => ((Math.min(Math.max(logit(threshold), from), to) - from) / (to - from)) * WIDTH;
  const y = (count: number, n: number): number => HEIGHT * (1 - (n ? count / n : 0));
  const line = (of: (point: Point) => number, n: number): string =>
    points.map((point, at) => `${at ? "L" : "M"}${x(point.threshold).toFixed(1)} ${y(of(point), n).toFixed(1)}`).join("");
  const mark = (kind: string, threshold: number): SVGElement => s("path", { class: kind, d: `M${x(threshold).toFixed(1)} 0V${HEIGHT}` });
  const says = fill(proposed ? words.chart_both : words.chart, { present: shown(present.threshold), proposed: proposed ? shown(proposed.threshold) : "" });
  const chart = s("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": says },
    genuine > 0 && s("path", { class: "accused", d: line((point) => point.false_positives, genuine) }),
    manipulated > 0 && s("path", { class: "missed", d: line((point) => point.misses, manipulated) }),
    mark("present", present.threshold), proposed && mark("proposed", proposed.threshold));
  const key = (kind: string, name: string): HTMLElement =>
    h("span", {}, s("svg", { class: "curve key", viewBox: "0 0 22 10", "aria-hidden": "true" }, s("path", { class: kind, d: "M0 5H22" })), ` ${name}`);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => points[Math.round(share * (points.length - 1))]);
  return h("div", { class: "charted" },
    h("p", { class: "legend" }, key("accused", words.accused), key("missed", words.missed),
      key("present", words.present), proposed && key("proposed", words.proposed)),
    h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, words.all)),
    chart,
    h("p", { class: "ends", "aria-hidden": "true" }, ticks.map((point) => point && h("span", {}, shown(point.threshold)))),
    h("details", {}, h("summary", {}, text.quality.as_table), table(points, genuine, manipulated)));
}

// Every fourth, which is every whole step of log-odds.
function table(points: Point[], genuine: number, manipulated: number): HTMLElement {
  const part = (k: number, n: number): string => (n ? `${k} / ${n} (${percent(k / n)})` : text.quality.none);
  const made = new Table<Point & { id: string }>(words.curve, [
    { head: words.from, cell: (point) => shown(point.threshold) },
    { head: words.accused, cell: (point) => part(point.false_positives, genuine) },
    { head: words.missed, cell: (point) => part(point.misses, manipulated) },
  ]);
  made.show(points.filter((_, n) => n % 4 === 0).map((point) => ({ ...point, id: String(point.threshold) })));
  return made.element;
}
