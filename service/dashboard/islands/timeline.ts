// What drawings over media time have in common, as SVG: the hatch of what was not judged, words in it, a line that is lifted where a value is
// missing, and the scale of surprise. Used by the live page; the result page draws on canvases (result/lane.ts).

import { s } from "./dom";

export const SURPRISE = 46;
const GAP_S = 1;

// A line through the rows that have a value, lifted where one is missing or the face was away.
export function path<Row extends { t: number }>(
  rows: readonly Row[],
  value: (row: Row) => number | null,
  x: (t: number) => number,
  y: (value: number) => number,
): string {
  let d = "";
  let last: number | null = null;
  for (const row of rows) {
    const v = value(row);
    if (v !== null) {
      const joined = last !== null && row.t - last <= GAP_S;
      d += `${joined ? "L" : "M"}${x(row.t).toFixed(1)} ${y(v).toFixed(1)}${joined ? "" : "h.01"}`;
    }
    last = v === null ? null : row.t;
  }
  return d;
}

// What `.hole` is filled with.
export const hatch = (): SVGPatternElement =>
  s("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    s("rect", { width: 6, height: 6, class: "hatch-ground" }), s("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatch-line" }));

// A word in the middle of a hole, as much of it as has room.
export function label(group: SVGElement, word: string, from: number, to: number, y: number): void {
  const room = to - from - 4;
  if (room < 26) return;
  const fits = Math.floor(room / 5.6);
  const shown = word.length <= fits ? word : `${word.slice(0, Math.max(fits - 1, 2))}…`;
  const half = shown.length * 2.8 + 4;
  const middle = (from + to) / 2;
  group.append(s("rect", { class: "hole-ground", x: middle - half, y: y - 11, width: half * 2, height: 15, rx: 3 }));
  group.append(s("text", { class: "hole-name", x: middle, y }, shown));
}

// Surprise on a logarithmic scale: 1, what real faces do in the same time, lies in the middle; a tenth and ten times of it at the edges.
export const surpriseY = (value: number, top: number): number =>
  top + SURPRISE * (0.5 - Math.max(-0.5, Math.min(0.5, Math.log10(Math.max(value, 1e-6)) / 2)));
