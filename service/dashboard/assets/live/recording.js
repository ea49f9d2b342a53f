// Mode `container`: the camera's stream comes in; pieces of one WebM, made by the browser's own encoder, go out, none missing.

import { KIND } from "./wire.js";

const PIECE_MS = 200;
const BITS_PER_SECOND = 2_500_000;
const LARGEST = 1024 ** 2; // A message may have twice that.
const TYPES = ["video/webm;codecs=vp8", "video/webm;codecs=vp9", "video/webm"];

export class Recording {
  static start = { mode: "container", pace: "live" };
  scale = 1;
  #stream; #onFull;
  #recorder = null;
  #origin = null;
  #sent = Promise.resolve();

  static get supported() {
    return "MediaRecorder" in window && TYPES.some((type) => MediaRecorder.isTypeSupported(type));
  }

  // onFull(): so much waits that no more can be kept.
  constructor({ stream, onFull }) {
    [this.#stream, this.#onFull] = [stream, onFull];
  }

  begin(connection) {
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: TYPES.find((type) => MediaRecorder.isTypeSupported(type)), videoBitsPerSecond: BITS_PER_SECOND });
    this.#recorder.addEventListener("dataavailable", ({ data }) => {
      // One after the other: blobs may be read in any order.
      this.#sent = this.#sent.then(async () => {
        for (let from = 0; from < data.size; from += LARGEST) {
          if (!connection.chunk(KIND.chunk, await data.slice(from, from + LARGEST).arrayBuffer())) this.#onFull();
        }
      });
    });
    this.#recorder.start(PIECE_MS);
  }

  // The recorder's line begins with the first picture that it gets, to a picture or so.
  at(picture) {
    return picture.taken_us - (this.#origin ?? picture.taken_us);
  }

  see(picture) {
    if (this.#recorder?.state === "recording") this.#origin ??= picture.taken_us;
  }

  async end() {
    if (this.#recorder && this.#recorder.state !== "inactive") {
      const stopped = new Promise((resolve) => this.#recorder.addEventListener("stop", resolve, { once: true }));
      this.#recorder.stop();
      await stopped;
    }
    await this.#sent;
  }
}
