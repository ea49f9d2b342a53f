// The camera: a choice comes in, its pictures go out one by one, each with the time at which it was taken; or a Trouble in words.

import { Problem } from "../api";
import { fill, text } from "../text";

export class Trouble extends Problem {
  constructor(title: string, detail: string, hint?: string) {
    super({ title, detail, ...(hint !== undefined && { hint }) });
  }
}

// One picture of the camera; times in microseconds, by the page's clock and by the wall's.
export interface Shot {
  video: HTMLVideoElement;
  width: number;
  height: number;
  taken_us: number;
  epoch_us: number;
}

interface Listener {
  onPicture: (picture: Shot) => void;
  onGone: () => void;
}

function trouble(name: string): Trouble | null {
  const words = text.live;
  if (name === "NotAllowedError" || name === "SecurityError") return new Trouble(words.not_allowed, words.not_allowed_why, words.not_allowed_hint);
  if (name === "NotFoundError" || name === "OverconstrainedError") return new Trouble(words.no_camera, words.no_camera_why, words.no_camera_hint);
  if (name === "NotReadableError" || name === "AbortError") return new Trouble(words.camera_busy, words.camera_busy_why, words.camera_busy_hint);
  return null;
}

// Open a camera; `id` "" leaves the choice to the browser. Null: when it came, nobody `wanted` it any more. Throws Trouble.
export async function openCamera(video: HTMLVideoElement, id: string, listener: Listener, wanted: () => boolean): Promise<Camera | null> {
  const words = text.live;
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Trouble(words.insecure, fill(words.insecure_why, { host: location.host }), words.insecure_hint);
  }
  if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) throw new Trouble(words.too_old, words.too_old_why, words.too_old_hint);
  const picture = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  const which = id ? { deviceId: { exact: id } } : { facingMode: "user" };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...picture, ...which } }).catch((error: DOMException) => {
    throw trouble(error.name) ?? new Trouble(words.cannot_open, `${error.name}: ${error.message}`, words.cannot_open_hint);
  });
  if (wanted()) return new Camera(video, stream, listener);
  for (const track of stream.getTracks()) track.stop();
  return null;
}

// The cameras that there are; names are only told once one was allowed.
export async function cameras(): Promise<{ id: string; name: string }[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter((one) => one.kind === "videoinput" && one.deviceId)
    .map((one, n) => ({ id: one.deviceId, name: one.label || fill(text.live.camera_n, { n: n + 1 }) }));
}

export class Camera {
  readonly id: string;
  #track: MediaStreamTrack | null;

  constructor(
    private readonly video: HTMLVideoElement,
    readonly stream: MediaStream,
    { onPicture, onGone }: Listener,
  ) {
    this.#track = stream.getVideoTracks()[0] ?? null;
    this.id = this.#track?.getSettings().deviceId ?? "";
    this.#track?.addEventListener("ended", () => this.#track && onGone());
    video.srcObject = stream;
    video.play().catch(() => {}); // Closed again before it began.
    const see: VideoFrameRequestCallback = (now, frame) => {
      if (!this.#track) return;
      video.requestVideoFrameCallback(see);
      // When it was taken, by this page's clock; where a browser does not say, when it was handed over.
      const taken = frame.captureTime ?? now;
      onPicture({ video, width: frame.width, height: frame.height, taken_us: Math.round(1000 * taken), epoch_us: Math.round(1000 * (performance.timeOrigin + taken)) });
    };
    video.requestVideoFrameCallback(see);
  }

  close(): void {
    const track = this.#track;
    this.#track = null;
    track?.stop();
    this.video.srcObject = null;
  }
}
