// The video with the faces' boxes over it: an analysis comes in, its player goes out. The playhead follows the frame that is on the screen,
// not the player's clock, which runs ahead of it.

import { Problem, slug } from "../api";
import { h, probability, s } from "../dom";
import { fill, text } from "../text";
import type { Analysis, Result, TimelineRow } from "../wire";
import { playable } from "./rendition";

// So that what is sought is the frame that begins there, not the one before it.
const INSIDE_S = 0.001;

export interface Shown {
  track: number;
  row: TimelineRow;
}

export class Player {
  readonly element: HTMLElement;
  onTime: (t: number) => void = () => {};
  readonly #video: HTMLVideoElement;
  readonly #boxes: SVGSVGElement;
  readonly #button: HTMLButtonElement;
  readonly #note = h("p", { class: "notice", hidden: true });
  readonly #leaving = new AbortController();
  #open = true;
  // Where somebody wanted to be, while there was nothing to see yet.
  #at = 0;
  // A rendition is shown, not the original.
  #rendered = false;

  constructor(
    private readonly analysis: Analysis,
    result: Result,
  ) {
    this.#video = h("video", { preload: "auto", playsinline: true, "aria-label": text.result.video });
    this.#video.muted = true;
    this.#boxes = s("svg", { class: "boxes", "aria-hidden": "true", viewBox: `0 0 ${result.media.width} ${result.media.height}` });
    this.#button = h("button", { type: "button", class: "play", onclick: () => this.toggle() });
    this.#face(false);
    this.element = h("div", { class: "player" }, h("div", { class: "screen" }, this.#video, this.#boxes, this.#button), this.#note);
    const video = this.#video;
    video.addEventListener("play", () => this.#face(true));
    video.addEventListener("pause", () => this.#face(false));
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("seeked", () => this.onTime(video.currentTime));
    video.addEventListener("error", () => this.#open && (this.#rendered ? this.#unplayable() : void this.#load(true)));
    video.addEventListener("loadedmetadata", () => {
      // Boxes are in the original's pixels; a rendition may have fewer.
      const { width, height } = result.media;
      const turned = video.videoWidth > video.videoHeight !== width > height;
      const [across, down] = !this.#rendered ? [video.videoWidth, video.videoHeight] : turned ? [height, width] : [width, height];
      this.#boxes.setAttribute("viewBox", `0 0 ${across} ${down}`);
      this.#boxes.setAttribute("preserveAspectRatio", "none");
    });
    // Without a first seek some browsers show no picture until play.
    video.addEventListener("loadeddata", () => this.seek(this.#at));
    void this.#load(false);
    this.#follow();
  }

  seek(t: number): void {
    this.#at = t;
    if (this.#video.error || !this.#video.readyState) this.onTime(t);
    if (!this.#video.error) this.#video.currentTime = Math.max(t, 0) + INSIDE_S;
  }

  toggle(): void {
    if (this.#video.paused) this.#video.play().catch(() => {});
    else this.#video.pause();
  }

  close(): void {
    this.#open = false;
    this.#leaving.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  draw(faces: readonly Shown[], threshold: number, selected: number | null): void {
    this.#boxes.replaceChildren(
      ...faces.map(({ track, row }) => {
        const [x0, y0, x1, y1] = row.box;
        const kind = row.p === null ? "unjudged" : row.p >= threshold ? "high" : "low";
        const size = Math.max((x1 - x0) / 9, 9);
        return s("g", { class: track === selected ? `${kind} selected` : kind },
          s("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: size / 3 }),
          s("text", { x: x0, y: y0 - size * 0.4, "font-size": size }, fill(text.result.box, { n: track, p: probability(row.p) })));
      }),
    );
  }

  #follow(): void {
    if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
      this.#video.addEventListener("timeupdate", () => this.onTime(this.#video.currentTime));
      return;
    }
    const onFrame: VideoFrameRequestCallback = (_now, frame) => {
      if (!this.#open) return;
      this.onTime(frame.mediaTime);
      this.#video.requestVideoFrameCallback(onFrame);
    };
    this.#video.requestVideoFrameCallback(onFrame);
  }

  #face(playing: boolean): void {
    this.#button.textContent = playing ? "❚❚" : "▶";
    this.#button.setAttribute("aria-label", playing ? text.result.pause : text.result.play);
  }

  // From the original, or from a rendition of it where the browser cannot play that.
  async #load(failed: boolean): Promise<void> {
    const onProgress = (share: number | null): void =>
      this.#say(share === null ? text.rendition.making : fill(text.rendition.making_share, { n: Math.floor(share * 100) }));
    try {
      const src = await playable(this.analysis, { failed, signal: this.#leaving.signal, onProgress });
      if (!this.#open) return;
      this.#rendered = src !== this.analysis.links.media;
      this.#say(this.#rendered ? text.rendition.shown : null);
      this.#video.src = src;
    } catch (problem) {
      this.#unplayable(problem);
    }
  }

  #unplayable(problem?: unknown): void {
    if (!this.#open) return;
    this.#button.disabled = true;
    if (problem instanceof Problem && slug(problem) === "evidence-not-found") {
      this.#say(text.rendition.gone);
      return;
    }
    const { codec, container } = this.analysis.result?.media ?? { codec: "", container: "" };
    const why = problem instanceof Problem ? `${problem.title}. ${problem.detail}` : "";
    this.#say(`${fill(text.rendition.unplayable, { codec, container })} ${why}`.trim());
  }

  #say(words: string | null): void {
    this.#note.textContent = words ?? "";
    this.#note.hidden = !words;
  }
}
