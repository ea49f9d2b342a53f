// The one camera that is looked at closely: a tile comes in; its newest picture as often as there is one, with boxes, its line and its facts go out.

import { Problem, ask } from "../api";
import { byId, h, probability, s } from "../dom";
import { faceBox, scored } from "../face_box";
import { fill, named, text } from "../text";
import { ScoreLine } from "./score_line";
import { serviceNow } from "./service_clock";
import { chipOf } from "./states";
import { Stills, paint } from "./stills";
import { type Tile, latency } from "./tile";
import type { Feed, Look } from "./wire";

const SOON_MS = 60; // After a picture was the same as before: twelve a second are looked at, at most.
const LATER_MS = 1000; // After there was none.
const ROW_S = 10; // Of the table that says what the line shows.

interface Listener {
  onClosed: () => void;
  onChanged: () => void;
  onTrouble: (error: unknown) => void;
}

export class Focus {
  tile: Tile | null = null;
  #listener: Listener;
  #run = 0;
  #asking: Promise<void> = Promise.resolve();
  #picture = h("canvas", { class: "still", role: "img", width: 16, height: 9 });
  #boxes = s("svg", { class: "boxes", "aria-hidden": "true" });
  #player = h("div", { class: "player wall-player" }, h("div", { class: "screen" }, this.#picture, this.#boxes), h("p", { class: "wall-none" }, text.wall.no_picture));
  #lineCanvas = h("canvas", { class: "wall-line large" });
  #line = new ScoreLine(this.#lineCanvas);
  #heading = h("h2", { class: "ellipsis", tabindex: "-1" });
  #url = h("p", { class: "fine ellipsis" });
  #state = h("p", { class: "wall-state" });
  #faces = h("ul", { class: "wall-faces" });
  #facts = h("dl", { class: "wall-facts" });
  #rows = h("tbody");
  #pause = h("button", { type: "button", class: "quiet", onclick: () => this.#change({ paused: !this.tile?.feed.paused }) });
  #again = h("button", { type: "button", class: "quiet", onclick: () => this.#change({ paused: false }) }, text.wall.try_again);
  #table = h("details", {}, h("summary", {}, text.wall.as_table),
    h("table", { class: "wall-table" }, h("thead", {}, h("tr", {}, [text.wall.column_ago, text.wall.column_highest].map((word) => h("th", { scope: "col" }, word)))), this.#rows));

  constructor(listener: Listener) {
    this.#listener = listener;
    byId("focus").replaceChildren(
      h("header", { class: "wall-focus-head" }, h("div", {}, this.#heading, this.#url),
        h("div", { class: "actions" }, this.#pause, this.#again,
          h("button", { type: "button", class: "quiet danger", onclick: () => this.#remove() }, text.wall.remove),
          h("button", { type: "button", class: "quiet", onclick: () => this.close() }, text.wall.close))),
      h("div", { class: "wall-focus-body" }, this.#player,
        h("div", { class: "wall-focus-side" }, this.#state, h("h3", {}, text.wall.faces), this.#faces, this.#facts)),
      h("div", {}, h("h3", {}, text.wall.last_minutes), this.#lineCanvas, h("p", { class: "wall-axis fine", "aria-hidden": "true" }, h("span", {}, text.wall.three_minutes_ago), h("span", {}, text.wall.now)), this.#table));
  }

  open(tile: Tile): void {
    if (this.tile) this.tile.focused = false;
    this.tile = tile;
    tile.focused = true;
    this.#run += 1;
    byId("focus").hidden = false;
    this.#player.classList.add("blank");
    this.#boxes.replaceChildren();
    this.#drawFaces(null);
    this.draw();
    this.#asking = this.#watch(this.#run, tile);
  }

  close(): void {
    const { tile } = this;
    if (!tile) return;
    tile.focused = false;
    this.tile = null;
    this.#run += 1;
    byId("focus").hidden = true;
    this.#listener.onClosed();
    tile.focus();
  }

  showHeading(): void {
    this.#heading.focus({ preventScroll: true });
    byId("focus").scrollIntoView({ block: "nearest" });
  }

  // Once a second.
  draw(): void {
    const { tile } = this;
    if (!tile) return;
    const { feed, condition } = tile;
    this.#heading.textContent = tile.name;
    this.#url.textContent = feed.url;
    this.#picture.setAttribute("aria-label", fill(text.wall.picture_of, { name: tile.name }));
    this.#pause.textContent = feed.paused ? text.wall.go_on : text.wall.pause;
    this.#again.hidden = condition.state !== "failed" && condition.state !== "ended";
    this.#state.replaceChildren(chipOf(condition), ` ${tile.sentence}`);
    this.#line.threshold = tile.line.threshold;
    this.#line.begin(tile.line.samples);
    this.#line.draw(serviceNow());
    this.#facts.replaceChildren(...this.#described(feed, tile));
    if (this.#table.open) this.#drawTable(tile);
  }

  // One picture after the other, as quickly as they come, until another camera is looked at.
  async #watch(run: number, tile: Tile): Promise<void> {
    const stills = new Stills(tile.feed.links.self);
    while (run === this.#run) {
      const still = document.hidden ? "same" : tile.watched ? await stills.newest() : "none";
      if (run !== this.#run) {
        if (typeof still === "object") still.image.close();
        return;
      }
      this.#player.classList.toggle("blank", still === "none" || (still === "same" && this.#player.classList.contains("blank")));
      if (typeof still === "object") this.#show(still.image, still.look, tile.threshold);
      if (still === "none") {
        this.#boxes.replaceChildren();
        this.#drawFaces(null);
      }
      await new Promise((resolve) => setTimeout(resolve, still === "none" ? LATER_MS : SOON_MS));
    }
  }

  #show(image: ImageBitmap, look: Look, threshold: number): void {
    const [wide, high] = [image.width, image.height];
    paint(this.#picture, image);
    this.#player.style.aspectRatio = `${wide} / ${high}`;
    this.#boxes.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    this.#boxes.replaceChildren(...look.faces.map((face) => faceBox(face, threshold, wide)));
    this.#picture.dataset.pts = String(look.at.pts);
    this.#drawFaces(look, threshold);
  }

  #drawFaces(look: Look | null, threshold = 1): void {
    const faces = (look?.faces ?? []).map((face) => {
      const high = face.p !== null && face.p >= threshold;
      return h("li", { class: high ? "high" : null }, h("span", {}, fill(text.wall.a_face, { track: face.track })), h("b", {}, `${high ? "▲ " : ""}${scored(face)}`));
    });
    this.#faces.replaceChildren(...(faces.length ? faces : [h("li", { class: "nothing" }, text.wall.no_face)]));
  }

  #described({ rule, live }: Feed, tile: Tile): HTMLElement[] {
    const { pace } = tile;
    const facts: [string, string | null | undefined | false][] = [
      [text.wall.rate, pace?.rate.toFixed(1)],
      [text.wall.latency, pace && latency(pace.latency_s)],
      [text.wall.media, live?.media && `${live.media.width} × ${live.media.height}, ${live.media.codec}`],
      [text.wall.rule, live && fill(text.wall.rule_is, { p: probability(live.threshold), min: rule.min_s, cooldown: rule.cooldown_s })],
      [text.wall.watched_since, live && new Date(live.totals.since).toLocaleString()],
      [text.wall.looks, live && fill(text.wall.looks_are, { looks: live.totals.looks, judged: live.totals.judged })],
      [text.wall.gaps, live && live.totals.gaps > 0 && fill(text.wall.gaps_are, { n: live.totals.gaps, seconds: live.totals.gap_s.toFixed(0) })],
      [text.wall.left_out, Object.entries(live?.totals.drops ?? {}).map(([cause, n]) => `${n} ${named(text.drops, cause)}`).join("; ")],
    ];
    return facts.flatMap(([term, fact]) => (fact ? [h("dt", {}, term), h("dd", {}, fact)] : []));
  }

  // The highest of every ten seconds, the newest first.
  #drawTable(tile: Tile): void {
    const highest = new Map<number, number | null>();
    for (const [at, p] of tile.line.samples) {
      const row = Math.floor((serviceNow() - at) / ROW_S);
      const before = highest.get(row) ?? null;
      if (row >= 0) highest.set(row, p === null ? before : Math.max(before ?? 0, p));
    }
    const rows = [...highest].filter(([row]) => row < 18).sort(([a], [b]) => a - b);
    this.#rows.replaceChildren(...rows.map(([row, p]) => h("tr", {}, h("th", { scope: "row" }, fill(text.wall.ago, { from: row * ROW_S, to: (row + 1) * ROW_S })), h("td", {}, probability(p)))));
  }

  async #change(change: { paused: boolean }): Promise<void> {
    if (!this.tile) return;
    await this.#act(this.tile.feed.links.self, { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(change) });
  }

  async #remove(): Promise<void> {
    const { tile } = this;
    if (!tile || !window.confirm(fill(text.wall.sure, { name: tile.name }))) return;
    // Nobody asks any more for pictures of what is about to be gone.
    tile.leaving = true;
    this.#run += 1;
    await Promise.all([tile.asking, this.#asking]);
    if (await this.#act(tile.feed.links.self, { method: "DELETE" })) return this.close();
    tile.leaving = false;
    if (this.tile === tile) this.open(tile);
  }

  async #act(path: string, options: RequestInit): Promise<boolean> {
    try {
      await ask(path, options);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404 && options.method === "DELETE")) {
        this.#listener.onTrouble(error);
        return false;
      }
    }
    this.#listener.onChanged();
    return true;
  }
}
