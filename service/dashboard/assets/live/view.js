// What is seen: the camera's pictures and the looks at them come in; each picture is shown late enough to bear the boxes that were found in it.

import { probability, reason, s } from "../dom.js";

const LATEST_US = 1_500_000; // Further behind, it would be no mirror any more.
const HELD_US = 600_000; // A box stays for so long after the look that found it, if no other came.
const SHRINK = 0.004; // Of the lag, with each picture: it grows at once and goes back slowly, so that the view does not stutter.

export class View {
  #canvas; #boxes;
  #pictures = [];
  #looks = [];
  #newest_us = 0;
  #lag = 0;
  #threshold = 1;
  #opened = 0;
  #mirrored = true;
  #shown_us = null;

  constructor(canvas, boxes) {
    [this.#canvas, this.#boxes] = [canvas, boxes];
  }

  set mirrored(mirrored) {
    this.#mirrored = mirrored;
    this.#drawBoxes();
  }

  // Another stream, whose time begins at zero: pictures of the one before would wait until it is as old as that was.
  begin(threshold) {
    this.clear();
    this.#threshold = threshold;
  }

  clear() {
    this.#opened += 1;
    for (const { image } of this.#pictures) image.close();
    [this.#pictures, this.#looks, this.#lag, this.#shown_us] = [[], [], 0, null];
    this.#drawBoxes();
  }

  async see(video, at_us) {
    const opened = this.#opened;
    const image = await createImageBitmap(video).catch(() => null); // The camera was closed meanwhile.
    if (!image) return;
    if (opened !== this.#opened) return image.close();
    this.#pictures.push({ image, at_us });
    this.#newest_us = at_us;
    const quiet = this.#looks.length && at_us - this.#looks.at(-1).at_us > LATEST_US;
    this.#lag = quiet ? 0 : this.#lag * (1 - SHRINK);
    let shown = null;
    while (this.#pictures.length && this.#pictures[0].at_us <= at_us - this.#lag) {
      shown?.image.close();
      shown = this.#pictures.shift();
    }
    if (shown) {
      this.#show(shown);
      shown.image.close();
    }
  }

  look(at_us, faces) {
    // So late that the look before is between two that are known when it is shown.
    const before = this.#looks.at(-1);
    if (before) this.#lag = Math.min(Math.max(this.#lag, this.#newest_us - before.at_us), LATEST_US);
    this.#looks.push({ at_us, faces });
    if (this.#looks.length > 64) this.#looks.shift();
  }

  #show({ image, at_us }) {
    const [wide, high] = [image.width, image.height];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) {
      Object.assign(this.#canvas, { width: wide, height: high });
      this.#boxes.setAttribute("viewBox", `0 0 ${wide} ${high}`);
      this.#canvas.closest(".player").style.aspectRatio = `${wide} / ${high}`;
    }
    this.#canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0);
    this.#shown_us = at_us;
    this.#drawBoxes();
  }

  #drawBoxes() {
    this.#boxes.replaceChildren(...this.#facesAt(this.#shown_us ?? -Infinity).map((face) => this.#box(face, this.#canvas.width)));
  }

  // The faces of the look before a moment, moved towards where the next look found them.
  #facesAt(at_us) {
    const n = this.#looks.findLastIndex((look) => look.at_us <= at_us);
    const [before, after] = [this.#looks[n], this.#looks[n + 1]];
    if (!before || at_us - before.at_us > (after ? LATEST_US : HELD_US)) return [];
    return before.faces.map((face) => {
      const then = after?.faces.find((one) => one.track === face.track);
      const share = then ? (at_us - before.at_us) / (after.at_us - before.at_us) : 0;
      return { ...face, box: face.box.map((edge, k) => edge + share * ((then ?? face).box[k] - edge)) };
    });
  }

  #box({ track, p, reason: why, box: [left, y0, right, y1] }, wide) {
    const [x0, x1] = this.#mirrored ? [wide - right, wide - left] : [left, right];
    const kind = p === null ? "unjudged" : p >= this.#threshold ? "high" : "low";
    const size = Math.min(Math.max((x1 - x0) / 9, wide / 40), wide / 22);
    const word = p === null ? (why ? `not judged: ${reason(why)}` : "warming up") : `${kind === "high" ? "▲ " : ""}${probability(p)}`;
    return s("g", { class: kind, "data-track": track },
      s("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: size / 3 }),
      s("text", { x: x0, y: Math.max(y0 - size * 0.4, size), "font-size": size }, `face ${track}: ${word}`));
  }
}
