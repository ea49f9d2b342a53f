// The picture over media time: the rows of an analysis and its result come in, a lane a face and one of surprise go out, with one playhead.
// Times are the video's own seconds. Dragging moves the playhead, Ctrl and the wheel (or + and -) look closer, Shift and the wheel move on.

import { clock, h, probability, reason } from "../dom";
import { fill, text } from "../text";
import type { Result, Track } from "../wire";
import { type Hole, holes } from "./holes";
import { type Ink, LEFT, Lane, RIGHT, inks } from "./lane";
import type { Source } from "./source";

const LANE = 78;
const SURPRISE = 56;
const CLOSEST_S = 0.5;
export const ZOOM = 1.6;
// More faces scroll, and the line below the lanes names only as many.
const MANY = 4;

export class TimelineView {
  readonly element: HTMLElement;
  t: number;
  selected: number | null = null;
  onSelect: (track: number) => void = () => {};
  readonly #start: number;
  readonly #end: number;
  #from: number;
  #to: number;
  #ink: Ink = inks();
  readonly #lanes = new Map<number, Lane>();
  readonly #surprise: Lane;
  readonly #stack = h("div", { class: "timeline" });
  readonly #head = h("div", { class: "playhead", tabindex: "0", role: "slider", "aria-label": text.result.position });
  readonly #readout = h("p", { class: "readout" });
  readonly #shown = h("span", { class: "shown-range" });
  readonly #move = h("input", { type: "range", class: "move", min: "0", max: "1000", "aria-label": text.result.move });
  readonly #names = new Map<number, HTMLButtonElement>();
  readonly #dark = matchMedia("(prefers-color-scheme: dark)");
  readonly #observer = new ResizeObserver(() => this.#resize());
  #width = 0;
  // What the lanes hold. Moving along it is drawing alone: to hand ten faces over again takes longer than a frame.
  #held: object | null = null;
  #due = 0;

  constructor(
    private readonly source: Source,
    readonly result: Result,
    private readonly onSeek: (t: number) => void,
  ) {
    this.#start = source.start;
    this.#end = Math.max(source.end, source.start + (result.coverage.duration_s || 0), source.start + 0.1);
    [this.#from, this.#to] = [this.#start, this.#end];
    this.t = this.#start;
    const range = (): [number, number] => [this.#from, this.#to];
    const ink = (): Ink => this.#ink;
    const time = (t: number): string => this.#word(t);
    const words = { manipulated: `▲ ${text.states.manipulated}` };
    const { threshold } = source;
    const ticks: [number, string][] = [[threshold, threshold.toFixed(2)]];
    if (1 - threshold > 0.15) ticks.unshift([1, "1"]);
    if (threshold > 0.15) ticks.push([0, "0"]);
    const faces = h("div", { class: result.tracks.length > MANY ? "lanes many" : "lanes" });
    for (const track of result.tracks) {
      const name = h("button", { type: "button", class: "lane-name", "aria-pressed": "false", onclick: () => this.select(track.id) },
        fill(text.result.face, { n: track.id }), h("span", { class: "fine" }, ` ${this.#told(track)}`));
      this.#names.set(track.id, name);
      const lane = new Lane(name, { height: LANE, threshold, axis: false, ticks, words, time }, 1, range, ink);
      this.#lanes.set(track.id, lane);
      faces.append(lane.element);
    }
    if (!result.tracks.length) faces.append(h("p", { class: "no-lane" }, text.result.nobody));
    this.#surprise = new Lane(
      h("p", { class: "lane-name" }, text.result.surprise, h("span", { class: "fine" }, ` ${text.result.surprise_more}`)),
      { height: SURPRISE, threshold: null, axis: true, ticks: [[10, "×10"], [1, "×1"], [0.1, "÷10"]], words, time },
      Math.max(result.tracks.length, 1), range, ink,
    );
    this.#stack.append(faces, this.#surprise.element, this.#head);
    const button = (word: string, label: string, act: () => void): HTMLElement =>
      h("button", { type: "button", class: "quiet zoom", "aria-label": label, title: label, onclick: act }, word);
    this.element = h("div", { class: "timeline-box" }, this.#stack,
      h("div", { class: "timeline-tools" }, this.#readout,
        h("div", { class: "zooms" }, this.#shown, this.#move,
          button("−", text.result.farther, () => this.zoom(1 / ZOOM)), button("+", text.result.closer, () => this.zoom(ZOOM)),
          button("↔", text.result.all, () => this.look(this.#start, this.#end)))));
    this.#stack.addEventListener("pointerdown", (event) => this.#drag(event));
    this.#stack.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#move.addEventListener("input", () => this.#moveTo(Number(this.#move.value) / 1000));
    this.#dark.addEventListener("change", this.#onColours);
    source.onNews = () => this.#fill();
    this.#observer.observe(this.element);
  }

  // The playhead is at a moment, which comes into view.
  show(t: number): void {
    this.t = Math.min(Math.max(t, this.#start), this.#end);
    if (this.t < this.#from || this.t > this.#to) this.#follow();
    this.#tell();
  }

  // The playhead where it is, in view or not, and what holds there in words.
  #tell(): void {
    this.source.want(this.t, this.#from, this.#to);
    const share = (this.t - this.#from) / (this.#to - this.#from);
    this.#head.style.transform = `translateX(${(LEFT + share * Math.max(this.#width - LEFT - RIGHT, 1)).toFixed(1)}px)`;
    this.#head.hidden = share < -0.001 || share > 1.001;
    const faces = this.result.tracks.flatMap(({ id }) => {
      const row = this.source.at(id, this.t);
      if (!row) return this.result.tracks.length > MANY ? [] : [fill(text.result.face_away, { n: id })];
      const why = row.reason ? reason(row.reason) : text.result.warming_up;
      return [row.p === null ? fill(text.result.face_not_judged, { n: id, reason: why }) : fill(text.result.face_p, { n: id, p: probability(row.p) })];
    });
    const told = [clock(this.t), ...faces.slice(0, MANY), ...(faces.length > MANY ? ["…"] : [])].join("  ·  ");
    this.#readout.textContent = told;
    const slider = { "aria-valuemin": this.#start, "aria-valuemax": this.#end, "aria-valuenow": this.t };
    for (const [name, value] of Object.entries(slider)) this.#head.setAttribute(name, value.toFixed(2));
    this.#head.setAttribute("aria-valuetext", told);
  }

  // One judged frame on or back.
  step(direction: -1 | 1): void {
    const next = this.source.beside(this.t, direction);
    if (next !== undefined) this.onSeek(next);
  }

  select(track: number): void {
    this.selected = track;
    for (const [id, name] of this.#names) name.setAttribute("aria-pressed", String(id === track));
    this.onSelect(track);
  }

  // Look closer (over 1) or from farther away; the playhead, or `around`, stays where it is.
  zoom(factor: number, around = this.t): void {
    const middle = around >= this.#from && around <= this.#to ? around : (this.#from + this.#to) / 2;
    const span = Math.min(Math.max((this.#to - this.#from) / factor, CLOSEST_S), this.#end - this.#start);
    const share = (middle - this.#from) / (this.#to - this.#from);
    this.look(middle - share * span, middle + (1 - share) * span);
  }

  // Show this stretch, or as much of it as there is.
  look(from: number, to: number): void {
    const span = Math.min(to - from, this.#end - this.#start);
    this.#from = Math.min(Math.max(from, this.#start), this.#end - span);
    this.#to = this.#from + span;
    this.#ask();
  }

  close(): void {
    cancelAnimationFrame(this.#due);
    this.#observer.disconnect();
    this.#dark.removeEventListener("change", this.#onColours);
    for (const lane of [...this.#lanes.values(), this.#surprise]) lane.close();
  }

  readonly #onColours = (): void => {
    this.#ink = inks();
    this.#ask();
  };

  // However often it is asked for, it is drawn once a frame.
  #ask(): void {
    this.#due ||= requestAnimationFrame(() => {
      this.#due = 0;
      this.#fill();
    });
  }

  #fill(): void {
    if (!this.#width) return;
    const held = this.source.stretch(this.#from, this.#to);
    if (held.part !== this.#held) this.#hold(held);
    for (const lane of [...this.#lanes.values(), this.#surprise]) lane.redraw();
    const whole = this.#end - this.#start;
    const rest = whole - (this.#to - this.#from);
    this.#move.hidden = this.#shown.hidden = rest < 1e-6;
    this.#move.value = String(rest > 0 ? Math.round((1000 * (this.#from - this.#start)) / rest) : 0);
    this.#shown.textContent = fill(text.result.range, { from: clock(this.#from), to: clock(this.#to) });
    this.#tell();
  }

  #hold(part: ReturnType<Source["stretch"]>): void {
    this.#held = part.part;
    const nobody: Hole[] = this.result.tracks.length ? [] : [{ from: this.#start, to: this.#end, word: text.result.nobody, seen: false }];
    for (const { id, first, last } of this.result.tracks) {
      const rows = part.rows(id);
      const own = holes(part.bands, id);
      this.#lanes.get(id)?.show({
        lines: [{ rows, value: (row) => row.p, breaks: own }],
        holes: own,
        segments: this.result.segments.filter((one) => one.track_ids.includes(id)),
        life: [first.t, last.t],
      });
    }
    const lines = this.result.tracks.map(({ id }) => ({
      rows: part.rows(id),
      breaks: holes(part.bands, id).filter((hole) => !hole.seen),
      value: (row: { surprise: number | null }) => (row.surprise === null ? null : Math.min(Math.max(row.surprise, 0.1), 10)),
    }));
    this.#surprise.show({
      lines: lines.length ? lines : [{ rows: [], value: () => null, breaks: [] }],
      holes: nobody, segments: [], life: [this.#start, this.#end],
    });
  }

  #resize(): void {
    const width = Math.max(this.#stack.clientWidth, 240);
    if (width === this.#width) return;
    this.#width = width;
    for (const lane of [...this.#lanes.values(), this.#surprise]) lane.resize(width);
    this.#fill();
  }

  // The playhead has left what is shown: a page on or back.
  #follow(): void {
    const span = this.#to - this.#from;
    this.look(this.t - 0.1 * span, this.t + 0.9 * span);
  }

  #moveTo(share: number): void {
    const from = this.#start + share * (this.#end - this.#start - (this.#to - this.#from));
    this.look(from, from + this.#to - this.#from);
  }

  #wheel(event: WheelEvent): void {
    const pan = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(-event.deltaY / 300), this.#at(event.clientX));
    else if (Math.abs(pan) > (event.shiftKey ? 0 : Math.abs(event.deltaY))) {
      const by = (pan / Math.max(this.#width, 1)) * (this.#to - this.#from);
      this.look(this.#from + by, this.#to + by);
    } else return;
    event.preventDefault();
  }

  #at(clientX: number): number {
    const box = this.#stack.getBoundingClientRect();
    const share = (clientX - box.left - LEFT) / Math.max(this.#width - LEFT - RIGHT, 1);
    return this.#from + Math.min(Math.max(share, 0), 1) * (this.#to - this.#from);
  }

  #drag(event: PointerEvent): void {
    if (event.button || (event.target as Element).closest("button")) return;
    const seek = (moved: PointerEvent): void => this.onSeek(this.source.nearest(this.#at(moved.clientX)));
    event.preventDefault();
    this.#head.focus({ preventScroll: true });
    this.#stack.setPointerCapture(event.pointerId);
    seek(event);
    const over = new AbortController();
    const { signal } = over;
    this.#stack.addEventListener("pointermove", seek, { signal });
    for (const end of ["pointerup", "pointercancel"] as const) this.#stack.addEventListener(end, () => over.abort(), { signal });
  }

  #told({ score, reason: why }: Track): string {
    return score.p === null ? fill(text.result.not_judged, { reason: reason(why ?? "too_short") }) : fill(text.result.p, { p: probability(score.p) });
  }

  #word(t: number): string {
    const span = this.#to - this.#from;
    if (this.#end >= 60 || span >= 60) {
      const whole = Math.floor(Math.abs(t) + 1e-6);
      const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
      const [hours, ...rest] = parts;
      const shown = hours ? `${hours}:${rest.map((n) => String(n).padStart(2, "0")).join(":")}` : `${rest[0]}:${String(rest[1]).padStart(2, "0")}`;
      const tenths = span < 10 ? (Math.abs(t) % 1).toFixed(1).slice(1) : "";
      return `${t < 0 ? "-" : ""}${shown}${tenths}`;
    }
    return `${+t.toFixed(span < 1 ? 2 : 1)} s`;
  }
}
