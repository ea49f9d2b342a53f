// What is seen: the camera's pictures and the looks at them come in; each picture is shown late enough to bear the boxes that were found in it.

import { faceBox } from "../face_box";
import type { Box, TimelineRow } from "../wire";

const LATEST_US = 1_500_000; // Further behind, it would be no mirror any more.
const HELD_US = 600_000; // A box stays for so long after the look that found it, if no other came.
const SHRINK = 0.004; // Of the lag, with each picture: it grows at once and goes back slowly, so that the view does not stutter.

interface Picture {
  image: ImageBitmap;
  at_us: number;
}

interface Look {
  at_us: number;
  faces: TimelineRow[];
}

export class View {
  #canvas: HTMLCanvasElement;
  #boxes: SVGSVGElement;
  #pictures: Picture[] = [];
  #looks: Look[] = [];
  #newest_us = 0;
  #lag = 0;
  #threshold = 1;
  #opened = 0;
  #mirrored = true;
  #shown_us: number | null = null;

  constructor(canvas: HTMLCanvasElement, boxes: SVGSVGElement) {
    [this.#canvas, this.#boxes] = [canvas, boxes];
  }

  set mirrored(mirrored: boolean) {
    this.#mirrored = mirrored;
    this.#drawBoxes();
  }

  // Another stream, whose time begins at zero: pictures of the one before would wait until it is as old as that was.
  begin(threshold: number): void {
    this.clear();
    this.#threshold = threshold;
  }

  clear(): void {
    this.#opened += 1;
    for (const { image } of this.#pictures) image.close();
    [this.#pictures, this.#looks, this.#lag, this.#shown_us] = [[], [], 0, null];
    this.#drawBoxes();
  }

  async see(video: HTMLVideoElement, at_us: number): Promise<void> {
    const opened = this.#opened;
    const image = await createImageBitmap(video).catch(() => null); // The camera was closed meanwhile.
    if (!image) return;
    if (opened !== this.#opened) return image.close();
    this.#pictures.push({ image, at_us });
    this.#newest_us = at_us;
    const last = this.#looks.at(-1);
    this.#lag = last && at_us - last.at_us > LATEST_US ? 0 : this.#lag * (1 - SHRINK);
    let shown: Picture | undefined;
    for (let next; (next = this.#pictures[0]) && next.at_us <= at_us - this.#lag; ) {
      shown?.image.close();
      shown = this.#pictures.shift();
    }
    if (shown) {
      this.#show(shown);
      shown.image.close();
    }
  }

  look(at_us: number, faces: TimelineRow[]): void {
    // So late that the look before is between two that are known when it is shown.
    const before = this.#looks.at(-1);
    if (before) this.#lag = Math.min(Math.max(this.#lag, this.#newest_us - before.at_us), LATEST_US);
    this.#looks.push({ at_us, faces });
    if (this.#looks.length > 64) this.#looks.shift();
  }

  #show({ image, at_us }: Picture): void {
    const [wide, high] = [image.width, image.height];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) {
      Object.assign(this.#canvas, { width: wide, height: high });
      this.#boxes.setAttribute("viewBox", `0 0 ${wide} ${high}`);
      const player = this.#canvas.closest<HTMLElement>(".player");
      if (player) player.style.aspectRatio = `${wide} / ${high}`;
    }
    this.#canvas.getContext("2d", { alpha: false })?.drawImage(image, 0, 0);
    this.#shown_us = at_us;
    this.#drawBoxes();
  }

  #drawBoxes(): void {
    this.#boxes.replaceChildren(...this.#facesAt(this.#shown_us ?? -Infinity).map((face) => this.#box(face, this.#canvas.width)));
  }

  // The faces of the look before a moment, moved towards where the next look found them.
  #facesAt(at_us: number): TimelineRow[] {
    const n = this.#looks.findLastIndex((look) => look.at_us <= at_us);
    const [before, after] = [this.#looks[n], this.#looks[n + 1]];
    if (!before || at_us - before.at_us > (after ? LATEST_US : HELD_US)) return [];
    return before.faces.map((face) => {
      const then = after?.faces.find((one) => one.track === face.track);
      if (!after || !then) return face;
      const share = (at_us - before.at_us) / (after.at_us - before.at_us);
      return { ...face, box: face.box.map((edge, k) => edge + share * ((then.box[k] ?? edge) - edge)) as Box };
    });
  }

  #box(face: TimelineRow, wide: number): SVGElement {
    const [x0, y0, x1, y1] = face.box;
    const box: Box = this.#mirrored ? [wide - x1, y0, wide - x0, y1] : face.box;
    return faceBox({ ...face, box }, this.#threshold, wide);
  }
}
