// The numbers of a period: `/v1/reviews/quality` comes in, tiles, tables and charts go out.

import { h } from "../dom";
import { Table } from "../settings/table";
import { percent, span } from "../settings/words";
import { fill, named, text } from "../text";
import { bars } from "./bars";
import type { Quality, Share, Times } from "./wire";

const DAY_MS = 86_400_000;
const words = text.quality;

export function numbers(found: Quality): HTMLElement[] {
  const { agreement, rulings } = found;
  const total = (key: "decided" | "skipped"): number => found.days.reduce((sum, day) => sum + day[key], 0);
  const kappa = agreement.kappa === null ? words.no_kappa : words.kappa;
  const disputes = rulings.disputes === 1 ? words.disputes_one : fill(words.disputes, { n: rulings.disputes });
  return [
    card(words.numbers, h("dl", { class: "tiles" },
      tile(words.decided, String(total("decided"))), tile(words.skipped, String(total("skipped"))),
      lasting(words.to_decision, found.to_decision), lasting(words.open, found.open),
      tile(words.agreement, rate(agreement.same), fill(kappa, { value: agreement.kappa?.toFixed(2) ?? "", n: agreement.same.n }), interval(agreement.same)),
      tile(words.overturned, rate(rulings.overturned), interval(rulings.overturned), disputes))),
    card(words.wrong, wrong(found), h("p", { class: "fine" }, words.wrong_hint)),
    card(words.per_day, found.days.length ? bars(words.per_day, [words.day, words.decided, words.skipped], everyDay(found)) : h("p", { class: "fine" }, words.no_days)),
    card(words.scores, ...scores(found)),
    card(words.skips, skips(found)),
  ];
}

const card = (title: string, ...children: Node[]): HTMLElement => h("section", { class: "card" }, h("h2", {}, title), ...children);

const rate = ({ share }: Share): string => (share === null ? words.none : percent(share));

const range = ({ low, high }: Share): string => (low === null || high === null ? "" : `${percent(low)} – ${percent(high)}`);

const interval = (one: Share): string | null =>
  one.low === null || one.high === null ? null : fill(words.interval, { low: percent(one.low), high: percent(one.high), k: one.k, n: one.n });

function tile(name: string, value: string, ...more: (string | null)[]): HTMLElement {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, h("b", {}, value), more.map((one) => one && h("small", {}, one))));
}

function lasting(name: string, { median_s: median, p90_s: most }: Times): HTMLElement {
  if (median === null || most === null) return tile(name, words.none);
  return tile(name, span(median), fill(words.median, { value: span(median) }), fill(words.p90, { value: span(most) }));
}

function wrong(found: Quality): HTMLElement {
  const table = new Table<Share & { id: string }>(words.wrong, [
    { head: words.measure, cell: ({ id }) => id },
    { head: words.share, cell: (one) => rate(one) },
    { head: words.range, cell: (one) => range(one) },
    { head: words.of, cell: ({ k, n }) => `${k} / ${n}` },
  ]);
  table.show([{ ...found.false_positives, id: words.false_positives }, { ...found.false_negatives, id: words.false_negatives }]);
  return table.element;
}

// Days without anything are days as well.
function everyDay({ days }: Quality): { name: string; first: number; second: number }[] {
  const known = new Map(days.map((day) => [day.day, day]));
  const [from, to] = [Date.parse(days[0]?.day ?? ""), Date.parse(days.at(-1)?.day ?? "")];
  return Array.from({ length: Math.round((to - from) / DAY_MS) + 1 }, (_, n) => {
    const name = new Date(from + n * DAY_MS).toISOString().slice(0, 10);
    return { name, first: known.get(name)?.decided ?? 0, second: known.get(name)?.skipped ?? 0 };
  });
}

function scores({ drift }: Quality): Node[] {
  const { histogram, histogram_before: before, n, n_before: m, psi, by_chance: chance } = drift;
  const part = (count: number, of: number): number => (of ? count / of : 0);
  const shown = histogram.map((count, bin) => {
    const [first, second] = [part(count, n), part(before[bin] ?? 0, m)];
    const says: [string, string] = [`${count} (${percent(first)})`, `${before[bin] ?? 0} (${percent(second)})`];
    return { name: `${(bin / histogram.length).toFixed(1)} – ${((bin + 1) / histogram.length).toFixed(1)}`, first, second, says };
  });
  const told = psi === null || chance === null ? [h("p", { class: "fine" }, words.no_scores)] : [
    h("p", {}, fill(words.drift, { value: psi.toFixed(3), chance: chance.toFixed(3), n, before: m })),
    h("p", { class: psi > chance ? "warn" : "fine" }, psi > chance ? words.drifted : words.no_drift)];
  return [...(n + m ? [bars(words.scores, [words.score, words.now, words.before], shown)] : []), ...told];
}

function skips({ skips: found }: Quality): HTMLElement {
  const all = Object.entries(found).sort(([, one], [, other]) => other - one);
  if (!all.length) return h("p", { class: "fine" }, words.no_skips);
  const table = new Table<{ id: string; n: number }>(words.skips, [
    { head: words.reason, cell: ({ id }) => named(text.skip_reasons, id) }, { head: words.times, cell: ({ n }) => String(n) }]);
  table.show(all.map(([id, n]) => ({ id, n })));
  return table.element;
}
