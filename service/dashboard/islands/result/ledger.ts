// Where a face's score comes from, as a sum: its ledger comes in, a table goes out whose numbers add up to the log-odds below them.

import { clock, h, probability } from "../dom";
import { fill, text } from "../text";
import type { Ledger } from "../wire";
import type { Go } from "./faces";

const DIGITS = 3;
const UNIT = 10 ** DIGITS;

export function ledgerTable(track: number, ledger: Ledger, threshold: number, go: Go): HTMLElement {
  const words = text.ledger;
  const [looks, moves] = [shown(ledger.shares.map((one) => one.appearance)), shown(ledger.shares.map((one) => one.motion))];
  const base = Math.round(ledger.base * UNIT);
  const [looked, moved] = [sum(looks), sum(moves)];
  const rows = ledger.shares.map(({ start, end }, n) => {
    const name = fill(text.result.range, { from: clock(start.t), to: clock(end.t) });
    const [look, move] = [looks[n] ?? 0, moves[n] ?? 0];
    return h("tr", {},
      h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => go(start.t, track) }, name)),
      cell(look), cell(move), cell(look + move));
  });
  const whole = base + looked + moved;
  const told = { logit: number(whole), p: probability(1 / (1 + Math.exp(-ledger.logit))), least: number(Math.round(Math.log(threshold / (1 - threshold)) * UNIT)) };
  return h("details", { class: "ledger" }, h("summary", {}, words.show),
    h("p", { class: "fine" }, words.lead),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": fill(words.title, { n: track }) },
      h("table", {}, h("thead", {}, h("tr", {}, [words.when, words.appearance, words.motion, words.together].map((head) => h("th", { scope: "col" }, head)))),
        h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, words.base), h("td", {}), h("td", {}), cell(base)), rows),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, words.sum), cell(looked), cell(moved), cell(whole))))),
    h("p", { class: "fine" }, fill(words.means, told)));
}

// In units of the last digit that is shown. What one is rounded up by, the next are rounded down by, so that those that are shown add up.
function shown(values: readonly number[]): number[] {
  let [exact, told] = [0, 0];
  return values.map((value) => {
    exact += value * UNIT;
    const own = Math.round(exact) - told;
    told += own;
    return own;
  });
}

const sum = (units: readonly number[]): number => units.reduce((all, one) => all + one, 0);

const number = (units: number): string => `${units < 0 ? "−" : units > 0 ? "+" : ""}${(Math.abs(units) / UNIT).toFixed(DIGITS)}`;

const cell = (units: number): HTMLElement => h("td", {}, number(units));
