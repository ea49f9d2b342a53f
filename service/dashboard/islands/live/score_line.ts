// The last half minute: looks and gaps come in as they happen, an SVG with every face's score and surprise goes out.

import { h, reason, s } from "../dom";
import { fill, text } from "../text";
import { SURPRISE, hatch, label, path, surpriseY } from "../timeline";
import type { TimelineRow } from "../wire";
import type { Gap, Score } from "./events";

const SPAN_S = 30;
const KEPT_S = 32;
const TOP = 12;
const LANE = 120;
const LEFT = 44;
const RIGHT = 14;
const CALM_MS = 1000; // Between drawings, for whoever asked for less motion.

interface Hole {
  from: number;
  to: number;
  word: string;
}

type Scale = (value: number) => number;

export class ScoreLine {
  #svg = s("svg", { class: "timeline live-line", role: "img", "aria-label": text.live.line_label });
  #box: HTMLElement;
  #looks: { t: number; why: string | null }[] = []; // `why` nobody was judged.
  #rows = new Map<number, TimelineRow[]>(); // By track.
  #gaps: Hole[] = [];
  #threshold: number | null = null;
  #due = 0;
  #calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  constructor(place: HTMLElement) {
    this.#box = h("div", { class: "timeline-box" }, this.#svg);
    place.replaceChildren(this.#box);
    new ResizeObserver(() => this.#draw()).observe(place);
  }

  begin(threshold: number): void {
    this.#threshold = threshold;
    [this.#looks, this.#gaps] = [[], []];
    this.#rows.clear();
    this.#soon();
  }

  look(event: Score): void {
    const judged = event.faces.some((row) => row.p !== null);
    const first = event.faces[0];
    this.#looks.push({ t: event.at.t, why: judged ? null : !first ? reason("no_face") : first.reason ? reason(first.reason) : text.common.warming_up });
    for (const row of event.faces) {
      const rows = this.#rows.get(row.track);
      if (rows) rows.push(row);
      else this.#rows.set(row.track, [row]);
    }
    this.#forget(event.at.t - KEPT_S);
    this.#soon();
  }

  gap(event: Gap, word: string): void {
    this.#gaps.push({ from: event.start.t, to: event.end.t, word });
    this.#soon();
  }

  #forget(before: number): void {
    this.#looks = this.#looks.filter((one) => one.t > before);
    this.#gaps = this.#gaps.filter((one) => one.to > before);
    for (const [track, rows] of this.#rows) {
      const left = rows.filter((row) => row.t > before);
      if (left.length) this.#rows.set(track, left);
      else this.#rows.delete(track);
    }
  }

  #soon(): void {
    if (this.#due) return;
    const draw = (): void => {
      this.#due = 0;
      this.#draw();
    };
    this.#due = this.#calm.matches ? setTimeout(draw, CALM_MS) : requestAnimationFrame(draw);
  }

  #draw(): void {
    const width = Math.max(this.#box.clientWidth, 280);
    const now = this.#looks.at(-1)?.t ?? 0;
    const from = Math.max(now - SPAN_S, this.#looks[0] ? Math.min(this.#looks[0].t, now) : 0);
    const x: Scale = (t) => LEFT + ((t - from) / SPAN_S) * (width - LEFT - RIGHT);
    const surpriseTop = TOP + LANE + 30;
    const bottom = surpriseTop + SURPRISE + 4;
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 18}`);
    this.#svg.setAttribute("height", String(bottom + 18));
    this.#svg.dataset.looks = String(this.#looks.length);
    const inside = s("clipPath", { id: "inside" }, s("rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT + 3, height: bottom }));
    this.#svg.replaceChildren(s("defs", {}, hatch(), inside), this.#scores(width, x), this.#surprise(width, x, surpriseTop), this.#axis(width, x, from, bottom));
  }

  #scores(width: number, x: Scale): SVGElement {
    const y: Scale = (p) => TOP + (1 - p) * LANE;
    const wide = width - LEFT - RIGHT;
    const lines = s("g", { "clip-path": "url(#inside)" });
    for (const hole of [...this.#gaps, ...this.#unjudged()]) {
      const [start, end] = [Math.max(x(hole.from), LEFT), Math.min(x(hole.to), width - RIGHT)];
      if (end <= start) continue;
      lines.append(s("rect", { class: "hole", x: start, y: TOP, width: Math.max(end - start, 1), height: LANE }, s("title", {}, hole.word)));
      label(lines, hole.word, start, end, TOP + LANE / 2 + 4);
    }
    const threshold = this.#threshold;
    let n = 0;
    for (const [track, rows] of this.#rows) {
      const d = path(rows, (row: TimelineRow) => row.p, x, y);
      lines.append(s("path", { class: "score under", d }), s("path", { class: `score n${n % 3}`, d }));
      const last = rows.findLast((row) => row.p !== null);
      if (last && last.p !== null) {
        lines.append(s("circle", { class: threshold !== null && last.p >= threshold ? "tip high" : "tip", cx: x(last.t), cy: y(last.p), r: 3.5 }));
        if (this.#rows.size > 1) lines.append(s("text", { class: "track", x: x(last.t) - 6, y: y(last.p) - 7 }, fill(text.live.face_n, { track })));
      }
      n += 1;
    }
    const group = s("g", { class: "lane" }, s("rect", { class: "ground", x: LEFT, y: TOP, width: wide, height: LANE, rx: 3 }));
    if (threshold !== null) {
      const at = y(threshold);
      group.append(s("rect", { class: "above", x: LEFT, y: TOP, width: wide, height: at - TOP }),
        s("line", { class: "threshold", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        s("text", { class: "tick", x: LEFT - 6, y: at + 3.5 }, threshold.toFixed(2)));
    }
    for (const value of [1, 0]) {
      if (threshold === null || Math.abs(value - threshold) * LANE > 11) group.append(s("text", { class: "tick", x: LEFT - 6, y: y(value) + 3.5 }, value));
    }
    group.append(lines);
    return group;
  }

  // Stretches in which nobody was judged, each with its reason.
  #unjudged(): Hole[] {
    const found: Hole[] = [];
    this.#looks.forEach(({ t, why }, n) => {
      if (!why) return;
      const to = this.#looks[n + 1]?.t ?? t;
      const last = found.at(-1);
      if (last?.word === why && last.to === t) last.to = to;
      else found.push({ from: t, to, word: why });
    });
    return found.filter((one) => !this.#gaps.some((gap) => gap.from <= one.from && gap.to >= one.to));
  }

  #surprise(width: number, x: Scale, top: number): SVGElement {
    const y: Scale = (value) => surpriseY(value, top);
    const group = s("g", { class: "lane surprise" }, s("rect", { class: "ground", x: LEFT, y: top, width: width - LEFT - RIGHT, height: SURPRISE, rx: 3 }));
    group.append(s("text", { x: LEFT, y: top - 7, class: "name" }, text.live.surprise, width > 620 && s("tspan", { class: "hint" }, `  ${text.live.surprise_hint}`)));
    group.append(s("line", { class: "one", x1: LEFT, x2: width - RIGHT, y1: y(1), y2: y(1) }));
    for (const [value, word] of [[10, "×10"], [1, "×1"], [0.1, "÷10"]] as const) {
      group.append(s("text", { class: "tick", x: LEFT - 6, y: Math.min(Math.max(y(value) + 3.5, top + 8), top + SURPRISE) }, word));
    }
    const lines = [...this.#rows.values()].map((rows, n) => s("path", { class: `surprise-line n${n % 3}`, d: path(rows, (row: TimelineRow) => row.surprise, x, y) }));
    group.append(s("g", { "clip-path": "url(#inside)" }, lines));
    return group;
  }

  #axis(width: number, x: Scale, from: number, top: number): SVGElement {
    const group = s("g", { class: "axis" });
    const every = width > 620 ? 5 : 10;
    for (let n = Math.ceil(from / every); n * every <= from + SPAN_S; n += 1) {
      const t = n * every;
      const word = `${Math.floor(t / 60)}:${String(t % 60).padStart(2, "0")}`;
      group.append(s("line", { x1: x(t), x2: x(t), y1: top, y2: top + 4 }), s("text", { x: x(t), y: top + 16 }, word));
    }
    return group;
  }
}
