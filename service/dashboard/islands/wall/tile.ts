// One camera among the others: what is known of it and what happens to it come in; a still, its state, its score line and how fast it is judged go out.

import { h, probability, seconds } from "../dom";
import { fill, text } from "../text";
import { ScoreLine } from "./score_line";
import { serviceNow } from "./service_clock";
import { type Condition, chipOf, kindOf, sentenceOf } from "./states";
import { Stills, paint } from "./stills";
import type { Feed, FeedState, Looks, StateChange } from "./wire";

const STILL_MS = 10_000; // Between two stills of a tile.
const WATCHED: FeedState[] = ["running", "stalled", "reconnecting"];
const RATE_OF = 5; // Over so many of the `looks` the rate is told.

export class Tile {
  readonly element: HTMLLIElement;
  readonly line: ScoreLine;
  condition: Condition;
  faces = 0;
  seen = true; // By the browser's own word: on the screen.
  leaving = false; // About to be removed: nothing more is asked of it.
  asking: Promise<void> = Promise.resolve();
  #told_at = performance.now();
  #event_seq = 0;
  #rates: Looks[] = [];
  #stills: Stills;
  #asked_at = -Infinity;
  #alerting = false;

  #picture = h("canvas", { class: "tile-still still", width: 16, height: 9, role: "img" });
  #lineCanvas = h("canvas", { class: "wall-line" });
  #state = h("p", { class: "tile-state" });
  #name: HTMLButtonElement;
  #score = h("span", { class: "tile-score" });
  #url = h("p", { class: "tile-url fine ellipsis" });
  #foot = h("p", { class: "tile-foot fine" });

  constructor(
    public feed: Feed,
    onOpen: () => void,
  ) {
    this.condition = conditionOf(feed);
    this.#stills = new Stills(feed.links.self);
    this.line = new ScoreLine(this.#lineCanvas);
    this.#name = h("button", { type: "button", class: "tile-name ellipsis", "aria-pressed": "false", onclick: onOpen });
    this.element = h("li", { class: "tile", "data-feed": feed.id },
      h("div", { class: "tile-picture" }, this.#picture, h("p", { class: "wall-none" }, text.wall.no_picture), this.#state),
      h("div", { class: "tile-head" }, h("h2", {}, this.#name), this.#score),
      this.#url, this.#lineCanvas, this.#foot);
    this.element.classList.add("blank");
    this.#become(this.condition);
    this.update(feed);
  }

  get name(): string {
    return this.feed.name ?? this.feed.url;
  }

  get threshold(): number {
    return this.feed.live?.threshold ?? 1;
  }

  // As the list has it now; of two states the later one holds.
  update(feed: Feed): void {
    this.feed = feed;
    this.line.threshold = feed.live?.threshold ?? null;
    const { state, since } = this.condition;
    const newer = feed.live === null || feed.live.event_seq >= this.#event_seq;
    if (newer && (state !== feed.state || since !== feed.since)) this.#become(conditionOf(feed));
    this.#name.textContent = this.name;
    this.#url.textContent = feed.name === null ? "" : feed.url;
    this.#picture.setAttribute("aria-label", fill(text.wall.picture_of, { name: this.name }));
    this.draw();
  }

  change(event: StateChange): void {
    this.#event_seq = event.event_seq;
    this.#become(event);
    if (event.state === "running") this.#asked_at = -Infinity;
    this.draw();
  }

  look(event: Looks): void {
    this.#event_seq = event.event_seq;
    this.faces = event.faces;
    this.#rates = [...this.#rates, event].slice(-RATE_OF);
    this.line.add([event.arrived_at, event.p]);
    if (this.element.classList.contains("blank")) this.#asked_at = -Infinity; // There is something to be seen now.
  }

  set alerting(alerting: boolean) {
    if (alerting && !this.#alerting) this.#asked_at = -Infinity;
    this.#alerting = alerting;
    this.element.classList.toggle("alerting", alerting);
  }

  set focused(focused: boolean) {
    this.element.classList.toggle("focused", focused);
    this.#name.setAttribute("aria-pressed", String(focused));
  }

  focus(): void {
    this.#name.focus();
  }

  // Looks a second, and how long the slowest of the last took; null while there are none.
  get pace(): { rate: number; latency_s: number } | null {
    const [first, last] = [this.#rates[0], this.#rates.at(-1)];
    if (!first || !last || last === first || serviceNow() - last.arrived_at > 10) return null;
    const looks = this.#rates.slice(1).reduce((n, one) => n + one.looks, 0);
    return { rate: looks / (last.arrived_at - first.arrived_at), latency_s: Math.max(...this.#rates.map((one) => one.latency_s)) };
  }

  get sentence(): string {
    return sentenceOf(this.condition, this.#told_at);
  }

  // When its still is due, by performance.now(); Infinity: nothing would come of it.
  get due(): number {
    return this.seen && this.watched && !this.leaving ? this.#asked_at + STILL_MS : Infinity;
  }

  // Whether there may be a picture of it.
  get watched(): boolean {
    return WATCHED.includes(this.condition.state);
  }

  refresh(): Promise<void> {
    this.#asked_at = performance.now();
    return (this.asking = this.#refresh());
  }

  async #refresh(): Promise<void> {
    const still = await this.#stills.newest();
    if (still === "same") return;
    this.element.classList.toggle("blank", still === "none");
    if (still !== "none") paint(this.#picture, still.image);
  }

  // Once a second, while it is on the screen.
  draw(): void {
    const p = this.line.newest;
    const running = this.condition.state === "running";
    const high = running && p !== null && p >= this.threshold;
    this.#score.className = high ? "tile-score high" : "tile-score";
    this.#score.textContent = !running ? "" : p !== null ? `${high ? "▲ " : ""}${probability(p)}` : this.faces ? text.common.not_judged : text.wall.no_face;
    const { pace } = this;
    this.#foot.textContent = this.sentence || (pace ? fill(text.wall.pace, { rate: pace.rate.toFixed(1), latency: latency(pace.latency_s) }) : running && !this.line.samples.length ? text.wall.first_looks : "");
    this.#foot.classList.toggle("warn", this.condition.state === "failed");
    if (this.seen) this.line.draw(serviceNow());
  }

  #become(condition: Condition): void {
    this.condition = condition;
    this.#told_at = performance.now();
    this.element.dataset.state = kindOf(condition);
    this.#state.replaceChildren(chipOf(condition));
    // What a feed that is not watched has shown is not shown on.
    if (!this.watched) this.element.classList.add("blank");
  }
}

export const latency = (s: number): string => (s < 1 ? `${Math.round(s * 1000)} ms` : seconds(s));

const conditionOf = ({ state, since, live }: Feed): Condition => ({ state, since, next_retry_s: live?.next_retry_s ?? null, code: live?.code ?? null, problem: live?.problem ?? null });
