// The rows of one analysis: its address comes in, the rows of a moment or a stretch go out, as fine as they are known. A long video's are
// thinned by the service (`points`); what is looked at closely is asked for, and whoever draws is told when it is there.

import { ask } from "../api";
import type { Timeline, TimelineBand, TimelineRow } from "../wire";
import { SAME_S } from "./holes";

// Of each face; many faces have lanes as wide as one has, but there are more of them to bring.
const POINTS = 4000;
const POINTS_OF_MANY = 800;
const pointsOf = (faces: number): number => Math.min(POINTS, Math.max(POINTS_OF_MANY, Math.floor((2 * POINTS) / Math.max(faces, 1))));
const NEAR_S = 15;
const HELD_S = 0.5;

class Part {
  readonly rows = new Map<number, TimelineRow[]>();
  readonly frames: number[];

  constructor(
    readonly timeline: Timeline,
    readonly from: number,
    readonly to: number,
  ) {
    const [numerator, denominator] = timeline.time_base;
    this.frames = timeline.frame_pts.map((pts) => (pts * numerator) / denominator);
    for (const row of timeline.rows) {
      const track = this.rows.get(row.track);
      if (track) track.push(row);
      else this.rows.set(row.track, [row]);
    }
  }

  get thinned(): boolean {
    return (this.timeline.total_rows ?? 0) > this.timeline.rows.length;
  }

  covers(from: number, to: number): boolean {
    return this.from <= from && to <= this.to;
  }
}

// The first index whose time is beyond `t`.
export function after<T>(items: readonly T[], t: number, time: (item: T) => number): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time(items[middle] as T) <= t) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Source {
  onNews: () => void = () => {};
  readonly start: number;
  readonly end: number;
  #near: Part | null = null;
  #close: Part | null = null;
  readonly #asking = new Set<"near" | "close">();

  static async of(address: string, faces: number, signal?: AbortSignal): Promise<Source> {
    return new Source(address, pointsOf(faces), await ask<Timeline>(`${address}?points=${pointsOf(faces)}`, { signal }));
  }

  private constructor(
    readonly address: string,
    private readonly points: number,
    timeline: Timeline,
  ) {
    this.whole = new Part(timeline, -Infinity, Infinity);
    this.start = Math.min(0, this.whole.frames[0] ?? 0);
    this.end = this.whole.frames.at(-1) ?? 0;
  }

  readonly whole: Part;

  get threshold(): number {
    return this.whole.timeline.threshold;
  }

  // What to draw of a stretch.
  stretch(from: number, to: number): { rows(track: number): readonly TimelineRow[]; bands: readonly TimelineBand[]; part: object; all: readonly TimelineRow[] } {
    const part = this.#finest(from, to);
    return { rows: (track) => part.rows.get(track) ?? [], bands: part.timeline.bands ?? [], part, all: part.timeline.rows };
  }

  // The row of a track that holds at a moment: the last one not older than half a second.
  at(track: number, t: number): TimelineRow | null {
    const rows = this.#finest(t, t).rows.get(track) ?? [];
    const row = rows[after(rows, t + SAME_S, (one) => one.t) - 1];
    return row && t - row.t < HELD_S ? row : null;
  }

  // The judged frame nearest to a moment.
  nearest(t: number): number {
    const { frames } = this.#finest(t, t);
    const n = after(frames, t, (one) => one);
    const [before, next] = [frames[n - 1], frames[n]];
    if (before === undefined) return next ?? t;
    return next !== undefined && next - t < t - before ? next : before;
  }

  // The judged frame beside a moment, before (-1) or after (1) it.
  beside(t: number, direction: -1 | 1): number | undefined {
    const { frames } = this.#finest(t, t);
    if (direction > 0) return frames[after(frames, t + SAME_S, (one) => one)];
    return frames[after(frames, t - SAME_S, (one) => one) - 1];
  }

  // See to it that a moment's own rows are known, for what is on the screen, and a stretch's, for what is drawn.
  want(t: number, from: number, to: number): void {
    if (!this.whole.thinned) return;
    const [begin, end] = [Math.max(t - 1, this.start), Math.min(t + 1, this.end)];
    if (!this.#near?.covers(begin, end)) void this.#load("near", t - NEAR_S, t + 3 * NEAR_S);
    const span = to - from;
    const narrow = span < (this.end - this.start) * 0.9;
    const fits = this.#close?.covers(from, to) && (!this.#close.thinned || this.#close.to - this.#close.from < 3 * span);
    if (narrow && !fits) void this.#load("close", from - span / 2, to + span / 2);
  }

  async #load(which: "near" | "close", from: number, to: number): Promise<void> {
    if (this.#asking.has(which)) return;
    this.#asking.add(which);
    [from, to] = [Math.max(from, this.start), Math.min(to, this.end)];
    try {
      // In milliseconds, outwards: the frames at its ends belong to it.
      const [begin, end] = [Math.floor(from * 1000) / 1000, Math.ceil(to * 1000) / 1000];
      const window = new URLSearchParams({ from: begin.toFixed(3), to: end.toFixed(3), points: String(which === "near" ? 20_000 : this.points) });
      const part = new Part(await ask<Timeline>(`${this.address}?${window}`), from, to);
      if (which === "near") this.#near = part;
      else this.#close = part;
    } catch {
      // What is thinned stays; the next move asks again.
      return;
    } finally {
      this.#asking.delete(which);
    }
    // Only now: whoever is told may want more already, having moved on meanwhile.
    this.onNews();
  }

  #finest(from: number, to: number): Part {
    const known = [this.#near, this.#close].filter((part): part is Part => part !== null && part.covers(from, to));
    return known.find((part) => !part.thinned) ?? known[0] ?? this.whole;
  }
}
