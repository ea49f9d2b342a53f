// Mode `container`: the camera's stream comes in; pieces of one WebM, made by the browser's own encoder, go out, none missing.

import type { Shot } from "./camera";
import type { Connection } from "./connection";
import type { Sender, SenderTerms } from "./sender";
import { KIND } from "./wire";

const PIECE_MS = 200;
const BITS_PER_SECOND = 2_500_000;
const LARGEST = 1024 ** 2; // A message may have twice that.
const TYPES = ["video/webm;codecs=vp8", "video/webm;codecs=vp9", "video/webm"];

const supportedType = (): string | undefined => TYPES.find((type) => MediaRecorder.isTypeSupported(type));

export class Recording implements Sender {
  static readonly start = { mode: "container", pace: "live" };
  readonly scale = 1;
  #stream: MediaStream;
  #onFull: SenderTerms["onFull"];
  #recorder: MediaRecorder | null = null;
  #origin: number | null = null;
  #sent: Promise<void> = Promise.resolve();

  static get supported(): boolean {
    return "MediaRecorder" in window && supportedType() !== undefined;
  }

  constructor({ stream, onFull }: SenderTerms) {
    [this.#stream, this.#onFull] = [stream, onFull];
  }

  begin(connection: Connection): void {
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: supportedType(), videoBitsPerSecond: BITS_PER_SECOND });
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
  at(picture: Shot): number {
    return picture.taken_us - (this.#origin ?? picture.taken_us);
  }

  see(picture: Shot): void {
    if (this.#recorder?.state === "recording") this.#origin ??= picture.taken_us;
  }

  cut(): void {
    throw new Error("a recording is of one camera");
  }

  async end(): Promise<void> {
    const recorder = this.#recorder;
    if (recorder && recorder.state !== "inactive") {
      const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
      recorder.stop();
      await stopped;
    }
    await this.#sent;
  }
}
