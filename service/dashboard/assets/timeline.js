// The picture over media time: a Timeline and its result come in, an SVG with one lane a face goes out. Times are the video's own seconds.

import { clock, h, probability, reason, s } from "./dom.js";

const LANE = 74;
export const SURPRISE = 46;
const TOP = 34;
const BETWEEN = 26;
const LEFT = 54;
const RIGHT = 12;
const GAP_S = 1;

export class TimelineView {
  constructor(timeline, result, onSeek) {
    this.result = result;
    this.threshold = timeline.threshold;
    this.onSeek = onSeek;
    const [numerator, denominator] = timeline.time_base;
    this.frames = timeline.frame_pts.map((pts) => (pts * numerator) / denominator);
    this.tracks = result.tracks.map((track) => ({ ...track, rows: timeline.rows.filter((row) => row.track === track.id) }));
    this.start = Math.min(0, this.frames[0] ?? 0);
    this.end = Math.max(this.frames.at(-1) ?? 0, this.start + (result.coverage.duration_s || 0), this.start + 0.1);
    this.t = this.start;
    this.empty = empties(timeline.rows, this.frames);
    this.svg = s("svg", { class: "timeline", tabindex: "0", role: "slider", "aria-label": "Position in the video" });
    this.readout = h("p", { class: "readout" });
    this.element = h("div", { class: "timeline-box" }, this.svg, this.readout);
    this.svg.addEventListener("pointerdown", (event) => this.#drag(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  x(t) {
    return LEFT + ((t - this.start) / (this.end - this.start)) * (this.width - LEFT - RIGHT);
  }

  // The row of a track that holds at a moment: the last one not older than half a second.
  at(track, t) {
    let [low, high] = [0, track.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (track.rows[middle].t <= t + 0.004) low = middle + 1;
      else high = middle;
    }
    const row = track.rows[low - 1];
    return row && t - row.t < 0.5 ? row : null;
  }

  step(direction) {
    const next =
      direction > 0 ? this.frames.find((t) => t > this.t + 0.004) : this.frames.findLast((t) => t < this.t - 0.004);
    if (next !== undefined) this.onSeek(next);
  }

  show(t) {
    this.t = Math.min(Math.max(t, this.start), this.end);
    const x = this.x(this.t);
    this.head?.setAttribute("transform", `translate(${x} 0)`);
    const faces = this.tracks.map((track) => {
      const row = this.at(track, this.t);
      if (!row) return `face ${track.id}: not in the picture`;
      return `face ${track.id}: ${row.p === null ? `not judged (${row.reason ? reason(row.reason) : "warming up"})` : `p ${probability(row.p)}`}`;
    });
    const text = [clock(this.t), ...faces.slice(0, 4)].join("  ·  ");
    this.readout.textContent = text;
    this.svg.setAttribute("aria-valuemin", this.start.toFixed(2));
    this.svg.setAttribute("aria-valuemax", this.end.toFixed(2));
    this.svg.setAttribute("aria-valuenow", this.t.toFixed(2));
    this.svg.setAttribute("aria-valuetext", text);
  }

  draw() {
    this.width = Math.max(this.element.clientWidth, 280);
    const lanes = Math.max(this.tracks.length, 1);
    const surpriseTop = TOP + lanes * (LANE + BETWEEN);
    const bottom = surpriseTop + SURPRISE + 4;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${bottom + 20}`);
    this.svg.setAttribute("height", bottom + 20);
    this.svg.replaceChildren(
      s("defs", {}, hatch()),
      ...(this.tracks.length ? this.tracks.map((track, n) => this.#lane(track, TOP + n * (LANE + BETWEEN))) : [this.#empty()]),
      this.#surprise(surpriseTop),
      this.#axis(bottom),
    );
    this.head = s("g", { class: "head" }, s("line", { y1: 10, y2: bottom }), s("path", { d: "M-5 2h10v6l-5 5-5-5z" }));
    this.svg.append(this.head);
    this.show(this.t);
  }

  #lane(track, top) {
    const y = (p) => top + (1 - p) * LANE;
    const group = s("g", { class: "lane" }, s("rect", { class: "ground away", x: LEFT, y: top, width: this.width - LEFT - RIGHT, height: LANE, rx: 3 }));
    const [born, gone] = [this.x(track.first.t), this.x(track.last.t)];
    group.append(s("rect", { class: "ground", x: born, y: top, width: Math.max(gone - born, 2), height: LANE, rx: 3 }));
    group.append(s("text", { x: LEFT, y: top - 6, class: "name" }, `Face ${track.id}`));
    for (const segment of this.result.segments.filter((one) => one.track_ids.includes(track.id))) {
      const [from, to] = [this.x(segment.start.t), this.x(segment.end.t)];
      group.append(s("rect", { class: "segment", x: from, y: top, width: Math.max(to - from, 2), height: LANE }));
      group.append(s("path", { class: "segment-edge", d: `M${from} ${top + 5}V${top}H${Math.max(to, from + 2)}v5` }));
      if (to - from > 82) group.append(s("text", { class: "segment-name", x: from + 5, y: top + LANE - 6 }, "▲ manipulated"));
    }
    for (const hole of [...this.empty, ...holes(track.rows, this.empty)]) {
      const [from, to] = [this.x(hole.from), this.x(hole.to)];
      group.append(s("rect", { class: "hole", x: from, y: top, width: Math.max(to - from, 1), height: LANE }, s("title", {}, hole.word)));
      label(group, hole.word, from, to, top + LANE / 2 + 4);
    }
    group.append(s("line", { class: "threshold", x1: LEFT, x2: this.width - RIGHT, y1: y(this.threshold), y2: y(this.threshold) }));
    const ends = [[1, "1"], [0, "0"]].filter(([value]) => Math.abs(value - this.threshold) * LANE > 11);
    for (const [value, word] of [...ends, [this.threshold, this.threshold.toFixed(2)]]) {
      group.append(s("text", { class: "tick", x: LEFT - 6, y: y(value) + 3.5 }, word));
    }
    const d = path(track.rows, (row) => row.p, (t) => this.x(t), y);
    group.append(s("path", { class: "score under", d }), s("path", { class: "score", d }));
    return group;
  }

  #empty() {
    const width = this.width - LEFT - RIGHT;
    const group = s("g", { class: "lane" }, s("rect", { class: "hole", x: LEFT, y: TOP, width, height: LANE, rx: 3 }));
    label(group, "no face was found", LEFT, LEFT + width, TOP + LANE / 2 + 4);
    return group;
  }

  #surprise(top) {
    const y = (value) => surpriseY(value, top);
    const group = s("g", { class: "lane surprise" }, s("rect", { class: "ground", x: LEFT, y: top, width: this.width - LEFT - RIGHT, height: SURPRISE, rx: 3 }));
    group.append(s("text", { x: LEFT, y: top - 6, class: "name" }, "Surprise", this.width > 620 && s("tspan", { class: "hint" }, "  how much more a face changed than real faces do in that time")));
    group.append(s("line", { class: "one", x1: LEFT, x2: this.width - RIGHT, y1: y(1), y2: y(1) }));
    for (const [value, word] of [[10, "×10"], [1, "×1"], [0.1, "÷10"]]) {
      group.append(s("text", { class: "tick", x: LEFT - 6, y: Math.min(Math.max(y(value) + 3.5, top + 8), top + SURPRISE) }, word));
    }
    this.tracks.forEach((track, n) => {
      group.append(s("path", { class: `surprise-line n${n % 3}`, d: path(track.rows, (row) => row.surprise, (t) => this.x(t), y) }));
    });
    return group;
  }

  #axis(top) {
    const group = s("g", { class: "axis" });
    const span = this.end - this.start;
    const room = Math.max(Math.floor((this.width - LEFT - RIGHT) / 90), 1);
    const every = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((step) => span / step <= room) ?? 7200;
    for (let n = Math.ceil(this.start / every); n * every <= this.end; n += 1) {
      const t = n * every;
      const word = span >= 60 ? `${Math.floor(t / 60)}:${String(Math.round(t % 60)).padStart(2, "0")}` : `${+t.toFixed(1)} s`;
      group.append(s("line", { x1: this.x(t), x2: this.x(t), y1: top, y2: top + 4 }), s("text", { x: this.x(t), y: top + 16 }, word));
    }
    return group;
  }

  #drag(event) {
    const seek = (moved) => {
      const box = this.svg.getBoundingClientRect();
      const share = (moved.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
      this.onSeek(this.start + Math.min(Math.max(share, 0), 1) * (this.end - this.start));
    };
    event.preventDefault();
    this.svg.focus({ preventScroll: true });
    this.svg.setPointerCapture(event.pointerId);
    seek(event);
    const stop = () => {
      this.svg.removeEventListener("pointermove", seek);
      this.svg.removeEventListener("pointerup", stop);
      this.svg.removeEventListener("pointercancel", stop);
    };
    this.svg.addEventListener("pointermove", seek);
    this.svg.addEventListener("pointerup", stop);
    this.svg.addEventListener("pointercancel", stop);
  }
}

// Stretches longer than GAP_S of the whole video in which no face was seen, or no frame came.
export function empties(rows, frames) {
  const seen = [...new Set(rows.map((row) => row.t))].sort((a, b) => a - b);
  const found = [];
  const add = (from, to) => {
    if (to - from <= GAP_S) return;
    const inside = frames.some((t) => t > from + 0.004 && t < to - 0.004);
    found.push({ from, to, word: inside ? "no face" : "no frames" });
  };
  if (!seen.length) return found;
  add(frames[0], seen[0]);
  seen.forEach((t, n) => n && add(seen[n - 1], t));
  add(seen.at(-1), frames.at(-1));
  return found;
}

// Where one track was seen but not judged, or away for longer than GAP_S while another was there: stretches with the reason in words.
export function holes(rows, known) {
  const found = [];
  rows.forEach((row, n) => {
    const before = rows[n - 1];
    if (before && row.t - before.t > GAP_S && !known.some((one) => one.from <= before.t && one.to >= row.t)) {
      found.push({ from: before.t, to: row.t, word: "not in the picture" });
    }
    if (row.p !== null || !row.reason) return;
    const word = `not judged: ${reason(row.reason)}`;
    const until = rows[n + 1] && rows[n + 1].t - row.t <= GAP_S ? rows[n + 1].t : row.t;
    const last = found.at(-1);
    if (last?.word === word && Math.abs(last.to - row.t) < 1e-6) last.to = until;
    else found.push({ from: row.t, to: until, word });
  });
  return found;
}

// A line through the rows that have a value, lifted where one is missing or the face was away.
export function path(rows, value, x, y) {
  let d = "";
  let last = null;
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
export const hatch = () =>
  s("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    s("rect", { width: 6, height: 6, class: "hatch-ground" }), s("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatch-line" }));

// A word in the middle of a hole, as much of it as has room.
export function label(group, word, from, to, y) {
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
export const surpriseY = (value, top) => top + SURPRISE * (0.5 - Math.max(-0.5, Math.min(0.5, Math.log10(Math.max(value, 1e-6)) / 2)));
