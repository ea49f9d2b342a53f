// One lane over media time: rows of a face (or of all, for surprise) come in, a canvas goes out on which uPlot draws them. Made by timeline.ts.

import uPlot from "uplot";
import { h } from "../dom";
import type { Segment, TimelineRow } from "../wire";
import type { Hole } from "./holes";
import { after } from "./source";

export const LEFT = 54;
export const RIGHT = 12;
// Room for half of a word at the first and last tick.
const EDGE = 6;
// With more looks than one on so many pixels a line is as thin as the screen has it, and undashed. It fills what it passes anyway, and a wide
// one is dear where nothing but the processor draws: lanes of four hours took 32 ms of the main thread a frame, and take 8 as hairlines.
const DENSE_PX = 2;
const DASHES = [[], [5, 2], [1.5, 2]];

export type Ink = Record<"ground" | "sunk" | "line" | "ink" | "soft" | "accent" | "warm" | "amber" | "hatch" | "panel", string>;

// The colours in force; canvases do not inherit them.
export function inks(): Ink {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "sunk", "line", "ink", "soft", "accent", "warm", "amber", "hatch", "panel"] as const;
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Ink;
}

export interface Drawn {
  // What there is to see of the lane: a line each, and what lies behind.
  lines: { rows: readonly TimelineRow[]; value: (row: TimelineRow) => number | null; breaks: readonly Hole[] }[];
  holes: readonly Hole[];
  segments: readonly Segment[];
  // From when to when the face is known.
  life: [number, number] | null;
}

export interface Kind {
  height: number;
  // A score from 0 to 1 with its threshold, or surprise around 1.
  threshold: number | null;
  axis: boolean;
  ticks: [number, string][];
  words: { manipulated: string };
  time: (t: number) => string;
}

export class Lane {
  readonly element: HTMLElement;
  readonly plot: uPlot;
  #drawn: Drawn = { lines: [], holes: [], segments: [], life: null };

  constructor(
    name: HTMLElement,
    private readonly kind: Kind,
    lines: number,
    private readonly range: () => [number, number],
    private readonly ink: () => Ink,
  ) {
    const place = h("div", { class: "lane-plot" });
    this.element = h("div", { class: `lane${kind.threshold === null ? " surprise" : ""}` }, name, place);
    const log = kind.threshold === null;
    this.plot = new uPlot(
      {
        width: 300,
        height: kind.height + 2 * EDGE + (kind.axis ? 22 : 0),
        padding: [EDGE, RIGHT, EDGE, 0],
        cursor: { show: false },
        legend: { show: false },
        scales: {
          x: { time: false, range: () => this.range() },
          y: log ? { distr: 3, log: 10, range: [0.1, 10] } : { range: [0, 1] },
        },
        axes: [
          {
            show: kind.axis,
            size: 22,
            gap: 2,
            font: "11px ui-sans-serif, system-ui, sans-serif",
            stroke: () => this.ink().soft,
            grid: { show: false },
            ticks: { size: 4, stroke: () => this.ink().soft, width: 1 },
            values: (_plot, values) => values.map((value) => this.kind.time(value)),
            space: 80,
          },
          {
            size: LEFT,
            gap: 4,
            font: "10px ui-sans-serif, system-ui, sans-serif",
            stroke: () => this.ink().soft,
            grid: { show: false },
            ticks: { show: false },
            splits: () => kind.ticks.map(([value]) => value),
            filter: (_plot, values) => values,
            values: () => kind.ticks.map(([, word]) => word),
          },
        ],
        series: [
          {},
          ...Array.from({ length: lines }, () => ({
            stroke: () => (log ? this.ink().amber : this.ink().accent),
            spanGaps: false,
            points: { show: false },
          })),
        ],
        hooks: { drawClear: [(plot) => this.#weigh(plot), (plot) => this.#behind(plot)], draw: [(plot) => this.#before(plot)] },
      },
      [[], ...Array.from({ length: lines }, () => [])],
      place,
    );
  }

  // Show these rows.
  show(drawn: Drawn): void {
    this.#drawn = drawn;
    this.plot.setData(aligned(drawn.lines));
  }

  // The range or the colours have changed.
  redraw(): void {
    const [min, max] = this.range();
    this.plot.setScale("x", { min, max });
  }

  resize(width: number): void {
    this.plot.setSize({ width, height: this.plot.height });
  }

  close(): void {
    this.plot.destroy();
  }

  #weigh(plot: uPlot): void {
    const { lines } = this.#drawn;
    const [from, to] = this.range();
    const looks = lines.reduce((sum, { rows }) => sum + after(rows, to, (row) => row.t) - after(rows, from, (row) => row.t), 0);
    const dense = looks / lines.length > plot.bbox.width / devicePixelRatio / DENSE_PX;
    const log = this.kind.threshold === null;
    plot.series.slice(1).forEach((line, n) => {
      line.width = dense ? 1 / devicePixelRatio : log ? 1.3 : 1.8;
      line.dash = log && !dense ? DASHES[n % DASHES.length] : [];
    });
  }

  #behind(plot: uPlot): void {
    const { ctx, bbox } = plot;
    const ink = this.ink();
    const x = (t: number): number => Math.min(Math.max(plot.valToPos(t, "x", true), bbox.left), bbox.left + bbox.width);
    const area = (from: number, to: number, fill: string | CanvasPattern, least = 1): void => {
      if (!within(from, to, this.range())) return;
      const [left, right] = [x(from), x(to)];
      ctx.fillStyle = fill;
      ctx.fillRect(left, bbox.top, Math.max(right - left, least), bbox.height);
    };
    ctx.save();
    ctx.globalAlpha = 0.45;
    area(...this.range(), ink.sunk);
    ctx.globalAlpha = 1;
    if (this.#drawn.life) area(...this.#drawn.life, ink.sunk, 2);
    ctx.globalAlpha = 0.13;
    for (const segment of this.#drawn.segments) area(segment.start.t, segment.end.t, ink.warm, 2);
    ctx.globalAlpha = 1;
    const stripes = stripesOf(ink, ctx);
    for (const hole of this.#drawn.holes) area(hole.from, hole.to, stripes);
    ctx.restore();
  }

  #before(plot: uPlot): void {
    const { ctx, bbox } = plot;
    const ink = this.ink();
    const ratio = devicePixelRatio;
    const [from, to] = this.range();
    const level = plot.valToPos(this.kind.threshold ?? 1, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - 2, bbox.width, bbox.height + 4);
    ctx.clip();
    ctx.strokeStyle = ink.soft;
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, level);
    ctx.lineTo(bbox.left + bbox.width, level);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = `${11 * ratio}px ui-sans-serif, system-ui, sans-serif`;
    // The axes leave theirs behind.
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    for (const segment of this.#drawn.segments) {
      if (!within(segment.start.t, segment.end.t, [from, to])) continue;
      const [left, right] = [plot.valToPos(segment.start.t, "x", true), plot.valToPos(segment.end.t, "x", true)];
      ctx.strokeStyle = ink.warm;
      ctx.lineWidth = 2 * ratio;
      ctx.beginPath();
      ctx.moveTo(left, bbox.top + 5 * ratio);
      ctx.lineTo(left, bbox.top);
      ctx.lineTo(Math.max(right, left + 2 * ratio), bbox.top);
      ctx.lineTo(Math.max(right, left + 2 * ratio), bbox.top + 5 * ratio);
      ctx.stroke();
      const begin = Math.max(left, bbox.left);
      if (right - begin > 90 * ratio) {
        ctx.fillStyle = ink.warm;
        ctx.fillText(this.kind.words.manipulated, begin + 5 * ratio, bbox.top + bbox.height - 6 * ratio);
      }
    }
    for (const hole of this.#drawn.holes) {
      if (!within(hole.from, hole.to, [from, to])) continue;
      const left = Math.max(plot.valToPos(hole.from, "x", true), bbox.left);
      const right = Math.min(plot.valToPos(hole.to, "x", true), bbox.left + bbox.width);
      const room = right - left - 8 * ratio;
      if (room < 30 * ratio) continue;
      const word = shortened(ctx, hole.word, room);
      const width = ctx.measureText(word).width;
      const middle = (left + right) / 2;
      const base = bbox.top + bbox.height / 2 + 4 * ratio;
      ctx.fillStyle = ink.panel;
      ctx.fillRect(middle - width / 2 - 4 * ratio, base - 12 * ratio, width + 8 * ratio, 16 * ratio);
      ctx.fillStyle = ink.soft;
      ctx.fillText(word, middle - width / 2, base);
    }
    ctx.restore();
  }
}

const within = (from: number, to: number, [begin, end]: [number, number]): boolean => to >= begin && from <= end;

function shortened(ctx: CanvasRenderingContext2D, word: string, room: number): string {
  if (ctx.measureText(word).width <= room) return word;
  let length = word.length;
  while (length > 2 && ctx.measureText(`${word.slice(0, length)}…`).width > room) length -= 1;
  return `${word.slice(0, length)}…`;
}

// The hatch of what was not judged: never colour alone. Made once for the colours in force.
const STRIPES = new WeakMap<Ink, CanvasPattern>();

function stripesOf(ink: Ink, ctx: CanvasRenderingContext2D): CanvasPattern {
  const made = STRIPES.get(ink) ?? striped(ink, ctx);
  STRIPES.set(ink, made);
  return made;
}

function striped(ink: Ink, ctx: CanvasRenderingContext2D): CanvasPattern {
  const side = 8;
  const tile = new OffscreenCanvas(side, side);
  const on = tile.getContext("2d") as OffscreenCanvasRenderingContext2D;
  on.fillStyle = ink.sunk;
  on.fillRect(0, 0, side, side);
  on.strokeStyle = ink.hatch;
  on.lineWidth = 2;
  for (const shift of [-side, 0, side]) {
    on.beginPath();
    on.moveTo(shift - 1, side + 1);
    on.lineTo(shift + side + 1, -1);
    on.stroke();
  }
  return ctx.createPattern(tile, "repeat") as CanvasPattern;
}

// Rows of several lines on one axis of time; a line is lifted where a value is missing or the face was away.
function aligned(lines: Drawn["lines"]): uPlot.AlignedData {
  const tables = lines.map(({ rows, value, breaks }): uPlot.AlignedData => {
    const times: number[] = [];
    const values: (number | null)[] = [];
    let next = 0;
    rows.forEach((row, n) => {
      const before = rows[n - 1];
      while (before && next < breaks.length && breaks[next]!.to <= before.t) next += 1;
      const hole = breaks[next];
      if (before && hole && hole.from < row.t && hole.to > before.t) {
        times.push((Math.max(hole.from, before.t) + Math.min(hole.to, row.t)) / 2);
        values.push(null);
      }
      times.push(row.t);
      values.push(value(row));
    });
    return [times, values];
  });
  if (!tables.length) return [[]];
  return tables.length === 1 ? (tables[0] as uPlot.AlignedData) : uPlot.join(tables);
}
