// Mode `frames`: the camera's pictures come in; JPEGs with the time of each go out, no more of them than may be looked at.

import { FLAG, KIND } from "./wire.js";

const QUALITY = 0.9;
const WIDEST = 1280;

export class Pictures {
  static start = { mode: "frames", codec: "jpeg" };
  scale = 1; // Of what is sent over what is seen.
  #connection;
  #hz = 12;
  #origin = null;
  #slot = -1;
  #late = null;
  #flags = 0;
  #busy = false;
  #canvas = new OffscreenCanvas(1, 1);
  #onSkip;

  // onSkip(cause): a picture that was due and could not be sent.
  constructor({ onSkip }) {
    this.#onSkip = onSkip;
  }

  begin(connection, { hz }) {
    [this.#connection, this.#hz] = [connection, hz];
  }

  // Where a picture is on the stream's line of time, in microseconds.
  at(picture) {
    return picture.taken_us - (this.#origin ?? picture.taken_us);
  }

  // Another camera films from here on.
  cut() {
    this.#flags = FLAG.discontinuity;
  }

  async see(picture) {
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
    this.#busy = true;
    try {
      const payload = await this.#encoded(picture);
      const { connection, flags } = { connection: this.#connection, flags: this.#flags };
      if (!connection) return;
      if (connection.picture(KIND.jpeg, payload, { pts_us, capture_epoch_us: picture.epoch_us, flags })) this.#flags = 0;
      else this.#onSkip("no_room");
    } finally {
      this.#busy = false;
    }
  }

  async end() {
    this.#connection = null;
  }

  async #encoded({ video, width, height }) {
    this.scale = Math.min(1, WIDEST / width);
    const [wide, high] = [Math.round(width * this.scale), Math.round(height * this.scale)];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) Object.assign(this.#canvas, { width: wide, height: high });
    this.#canvas.getContext("2d", { alpha: false }).drawImage(video, 0, 0, wide, high);
    return (await this.#canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY })).arrayBuffer();
  }
}
