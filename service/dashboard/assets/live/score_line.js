// The last half minute: looks and gaps come in as they happen, an SVG with every face's score and surprise goes out.

import { h, reason, s } from "../dom.js";
import { SURPRISE, hatch, label, path, surpriseY } from "../timeline.js";

const SPAN_S = 30;
const KEPT_S = 32;
const TOP = 12;
const LANE = 120;
const LEFT = 44;
const RIGHT = 14;
const CALM_MS = 1000; // Between drawings, for whoever asked for less motion.

export class ScoreLine {
  #svg = s("svg", { class: "timeline live-line", role: "img", "aria-label": "Scores of the last half minute" });
  #looks = []; // {t, why}: why nobody was judged, or null.
  #rows = new Map(); // Track -> its rows.
  #gaps = []; // {from, to, word}
  #threshold = null;
  #due = 0;
  #calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  constructor(place) {
    place.replaceChildren(h("div", { class: "timeline-box" }, this.#svg));
    new ResizeObserver(() => this.#draw()).observe(place);
  }

  begin(threshold) {
    this.#threshold = threshold;
    [this.#looks, this.#gaps] = [[], []];
    this.#rows.clear();
    this.#soon();
  }

  look(event) {
    const judged = event.faces.some((row) => row.p !== null);
    this.#looks.push({ t: event.at.t, why: judged ? null : reason(event.faces.length ? event.faces[0].reason ?? "warming up" : "no_face") });
    for (const row of event.faces) {
      if (!this.#rows.has(row.track)) this.#rows.set(row.track, []);
      this.#rows.get(row.track).push(row);
    }
    this.#forget(event.at.t - KEPT_S);
    this.#soon();
  }

  gap(event, word) {
    this.#gaps.push({ from: event.start.t, to: event.end.t, word });
    this.#soon();
  }

  #forget(before) {
    this.#looks = this.#looks.filter((one) => one.t > before);
    this.#gaps = this.#gaps.filter((one) => one.to > before);
    for (const [track, rows] of this.#rows) {
      const left = rows.filter((row) => row.t > before);
      if (left.length) this.#rows.set(track, left);
      else this.#rows.delete(track);
    }
  }

  #soon() {
    if (this.#due) return;
    const draw = () => {
      this.#due = 0;
      this.#draw();
    };
    this.#due = this.#calm.matches ? setTimeout(draw, CALM_MS) : requestAnimationFrame(draw);
  }

  #draw() {
    const width = Math.max(this.#svg.parentElement.clientWidth, 280);
    const now = this.#looks.at(-1)?.t ?? 0;
    const from = Math.max(now - SPAN_S, this.#looks[0] ? Math.min(this.#looks[0].t, now) : 0);
    const x = (t) => LEFT + ((t - from) / SPAN_S) * (width - LEFT - RIGHT);
    const surpriseTop = TOP + LANE + 30;
    const bottom = surpriseTop + SURPRISE + 4;
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 18}`);
    this.#svg.setAttribute("height", bottom + 18);
    this.#svg.dataset.looks = this.#looks.length;
    const inside = s("clipPath", { id: "inside" }, s("rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT + 3, height: bottom }));
    this.#svg.replaceChildren(s("defs", {}, hatch(), inside), this.#scores(width, x), this.#surprise(width, x, surpriseTop), this.#axis(width, x, from, bottom));
  }

  #scores(width, x) {
    const y = (p) => TOP + (1 - p) * LANE;
    const wide = width - LEFT - RIGHT;
    const lines = s("g", { "clip-path": "url(#inside)" });
    for (const hole of [...this.#gaps, ...this.#unjudged()]) {
      const [start, end] = [Math.max(x(hole.from), LEFT), Math.min(x(hole.to), width - RIGHT)];
      if (end <= start) continue;
      lines.append(s("rect", { class: "hole", x: start, y: TOP, width: Math.max(end - start, 1), height: LANE }, s("title", {}, hole.word)));
      label(lines, hole.word, start, end, TOP + LANE / 2 + 4);
    }
    let n = 0;
    for (const [track, rows] of this.#rows) {
      const d = path(rows, (row) => row.p, x, y);
      lines.append(s("path", { class: "score under", d }), s("path", { class: `score n${n % 3}`, d }));
      const last = rows.findLast((row) => row.p !== null);
      if (last) lines.append(s("circle", { class: last.p >= this.#threshold ? "tip high" : "tip", cx: x(last.t), cy: y(last.p), r: 3.5 }));
      if (last && this.#rows.size > 1) lines.append(s("text", { class: "track", x: x(last.t) - 6, y: y(last.p) - 7 }, `face ${track}`));
      n += 1;
    }
    const group = s("g", { class: "lane" }, s("rect", { class: "ground", x: LEFT, y: TOP, width: wide, height: LANE, rx: 3 }));
    const ticks = [[1, "1"], [0, "0"]];
    if (this.#threshold !== null) {
      const at = y(this.#threshold);
      group.append(s("rect", { class: "above", x: LEFT, y: TOP, width: wide, height: at - TOP }),
        s("line", { class: "threshold", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        s("text", { class: "tick", x: LEFT - 6, y: at + 3.5 }, this.#threshold.toFixed(2)));
    }
    for (const [value, word] of ticks) {
      if (this.#threshold === null || Math.abs(value - this.#threshold) * LANE > 11) group.append(s("text", { class: "tick", x: LEFT - 6, y: y(value) + 3.5 }, word));
    }
    group.append(lines);
    return group;
  }

  // Stretches in which nobody was judged, each with its reason.
  #unjudged() {
    const found = [];
    this.#looks.forEach(({ t, why }, n) => {
      if (!why) return;
      const to = this.#looks[n + 1]?.t ?? t;
      const last = found.at(-1);
      if (last?.word === why && last.to === t) last.to = to;
      else found.push({ from: t, to, word: why });
    });
    return found.filter((one) => !this.#gaps.some((gap) => gap.from <= one.from && gap.to >= one.to));
  }

  #surprise(width, x, top) {
    const y = (value) => surpriseY(value, top);
    const group = s("g", { class: "lane surprise" }, s("rect", { class: "ground", x: LEFT, y: top, width: width - LEFT - RIGHT, height: SURPRISE, rx: 3 }));
    group.append(s("text", { x: LEFT, y: top - 7, class: "name" }, "Surprise", width > 620 && s("tspan", { class: "hint" }, "  how much more a face changed than real faces do in that time")));
    group.append(s("line", { class: "one", x1: LEFT, x2: width - RIGHT, y1: y(1), y2: y(1) }));
    for (const [value, word] of [[10, "×10"], [1, "×1"], [0.1, "÷10"]]) {
      group.append(s("text", { class: "tick", x: LEFT - 6, y: Math.min(Math.max(y(value) + 3.5, top + 8), top + SURPRISE) }, word));
    }
    const lines = [...this.#rows.values()].map((rows, n) => s("path", { class: `surprise-line n${n % 3}`, d: path(rows, (row) => row.surprise, x, y) }));
    group.append(s("g", { "clip-path": "url(#inside)" }, lines));
    return group;
  }

  #axis(width, x, from, top) {
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
