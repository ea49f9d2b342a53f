// Mode `frames`: the camera's pictures come in; JPEGs with the time of each go out, no more of them than may be looked at.

import type { Shot } from "./camera";
import type { Connection } from "./connection";
import type { Sender, SenderTerms } from "./sender";
import { FLAG, KIND } from "./wire";

const QUALITY = 0.9;
const WIDEST = 1280;

export class Pictures implements Sender {
  static readonly start = { mode: "frames", codec: "jpeg" };
  scale = 1;
  #connection: Connection | null = null;
  #hz = 12;
  #origin: number | null = null;
  #slot = -1;
  #late: number | null = null;
  #flags = 0;
  #busy = false;
  #canvas = new OffscreenCanvas(1, 1);
  #onSkip: SenderTerms["onSkip"];

  constructor({ onSkip }: SenderTerms) {
    this.#onSkip = onSkip;
  }

  begin(connection: Connection, { hz }: { hz: number }): void {
    [this.#connection, this.#hz] = [connection, hz];
  }

  at(picture: Shot): number {
    return picture.taken_us - (this.#origin ?? picture.taken_us);
  }

  cut(): void {
    this.#flags = FLAG.discontinuity;
  }

  async see(picture: Shot): Promise<void> {
    if (!this.#connection) return;
    this.#origin ??= picture.taken_us;
    const pts_us = this.at(picture);
    // The service keeps the first picture of each 1 / hz second; others would travel for nothing.
    const slot = Math.floor((pts_us * this.#hz) / 1e6);
    if (slot <= this.#slot) return;
    if (this.#late !== null && slot > this.#late) this.#onSkip("browser_busy");
    this.#late = this.#busy ? slot : null; // Another picture may still come in time.
    if (this.#busy) return;
    this.#slot = slot;
    if (!this.#connection.open) return this.#onSkip("no_room");
    this.#busy = true;
    try {
      const payload = await this.#encoded(picture);
      if (!this.#connection) return;
      if (this.#connection.picture(KIND.jpeg, payload, { pts_us, capture_epoch_us: picture.epoch_us, flags: this.#flags })) this.#flags = 0;
      else this.#onSkip("no_room");
    } finally {
      this.#busy = false;
    }
  }

  async end(): Promise<void> {
    this.#connection = null;
  }

  async #encoded({ video, width, height }: Shot): Promise<ArrayBuffer> {
    this.scale = Math.min(1, WIDEST / width);
    const [wide, high] = [Math.round(width * this.scale), Math.round(height * this.scale)];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) Object.assign(this.#canvas, { width: wide, height: high });
    this.#canvas.getContext("2d", { alpha: false })?.drawImage(video, 0, 0, wide, high);
    return (await this.#canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY })).arrayBuffer();
  }
}
