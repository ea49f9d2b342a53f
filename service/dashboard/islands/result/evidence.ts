// What the judgement rests on, in words: the result and its rows come in; for each face how long it counted as manipulated, and when it
// looked and moved least like a filmed one, as moments to go to, and the sum behind its score, go out.

import { clock, h, probability, seconds } from "../dom";
import { fill, text } from "../text";
import type { Result, TimelineRow, Track } from "../wire";
import type { Go } from "./faces";
import { ledgerTable } from "./ledger";
import type { Source } from "./source";

export function evidence(result: Result, source: Source, go: Go): HTMLElement | null {
  const judged = result.tracks.filter((track) => track.judged > 0);
  if (!judged.length) return null;
  return h("section", { class: "card evidence" }, h("h2", {}, text.evidence.title),
    h("ul", {}, judged.map((track) => h("li", {}, h("b", {}, fill(text.result.face, { n: track.id })), " ", ofFace(track, result, source, go),
      track.ledger && ledgerTable(track.id, track.ledger, result.threshold, go)))),
    h("p", { class: "fine" }, text.evidence.ledger, " ", h("code", {}, "undercurrent detect FILE --explain why.png")));
}

function ofFace(track: Track, result: Result, source: Source, go: Go): (Node | string)[] {
  // Thinned or not: the highest of each face are there.
  const rows = source.whole.rows.get(track.id) ?? [];
  const own = result.segments.filter((segment) => segment.track_ids.includes(track.id));
  const high = largest(rows, (row) => row.p);
  const odd = largest(rows, (row) => row.surprise);
  const moment = (t: number): HTMLElement => h("button", { type: "button", class: "link", onclick: () => go(t, track.id) }, clock(t));
  const lasted = own.reduce((sum, { start, end }) => sum + end.t - start.t, 0);
  const counted = own.length === 1 ? text.evidence.once : own.length ? text.evidence.often : text.evidence.never;
  return [
    fill(counted, { s: seconds(lasted), n: own.length }),
    ...(high ? [" ", fill(text.evidence.highest, { p: probability(high.p) }), " ", moment(high.t), "."] : []),
    ...(odd?.surprise ? [" ", fill(text.evidence.oddest, { times: odd.surprise.toFixed(1) }), " ", moment(odd.t), "."] : []),
  ];
}

function largest(rows: readonly TimelineRow[], value: (row: TimelineRow) => number | null): TimelineRow | null {
  let found: TimelineRow | null = null;
  let most = -Infinity;
  for (const row of rows) {
    const own = value(row);
    if (own === null || own <= most) continue;
    [found, most] = [row, own];
  }
  return found;
}
