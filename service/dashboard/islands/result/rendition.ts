// What a browser can play of an analysis: its media comes in, an address that plays goes out, the original's or that of its H.264 rendition.
// Every picture of the rendition is shown at the same time as the original's, so that boxes and scores fit either.

import { offline, problemOf, signIn } from "../api";
import { h } from "../dom";
import type { Analysis } from "../wire";

export interface Wish {
  // The original was tried and failed while it played.
  failed?: boolean;
  signal?: AbortSignal;
  // How much of the rendition is made; null while nobody knows. Not called where the original plays.
  onProgress?: (share: number | null) => void;
}

// By the name of its decoder: what to ask the browser. What is not here, no browser plays.
const TYPES: Record<string, string> = {
  h264: 'video/mp4; codecs="avc1.64001F"',
  hevc: 'video/mp4; codecs="hvc1.1.6.L93.B0"',
  vp8: 'video/webm; codecs="vp8"',
  vp9: 'video/webm; codecs="vp09.00.10.08"',
  libdav1d: 'video/mp4; codecs="av01.0.04M.08"',
  av1: 'video/mp4; codecs="av01.0.04M.08"',
};
const CONTAINERS = ["mp4", "webm", "matroska"];
const TRIAL_MS = 4000;
const PATIENCE = 15;

// Where to play it from. Raises the Problem that says why no rendition can be made, and what `signal` was aborted with.
export async function playable(analysis: Analysis, { failed = false, signal, onProgress }: Wish = {}): Promise<string> {
  const { media } = analysis.links;
  if (!failed && mayPlay(analysis) && (await plays(media, signal))) return media;
  signal?.throwIfAborted();
  onProgress?.(null);
  return made(`${media}?rendition=h264`, signal, onProgress);
}

function mayPlay({ result }: Analysis): boolean {
  if (!result) return true;
  const { container, codec } = result.media;
  const type = TYPES[codec];
  return type !== undefined && CONTAINERS.some((one) => container.includes(one)) && document.createElement("video").canPlayType(type) !== "";
}

// Tried out of sight, since a type says little: profiles differ, and of a picture that it cannot decode a browser plays the sound alone.
function plays(src: string, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const trial = h("video", { preload: "metadata", playsinline: true });
    trial.muted = true;
    const end = (answer: boolean): void => {
      clearTimeout(timer);
      trial.removeAttribute("src");
      trial.load();
      resolve(answer);
    };
    // Some browsers load nothing before somebody presses play; the player then notices by itself.
    const timer = setTimeout(end, TRIAL_MS, true);
    trial.addEventListener("loadedmetadata", () => end(trial.videoWidth > 0), { once: true });
    trial.addEventListener("error", () => trial.hasAttribute("src") && end(false));
    signal?.addEventListener("abort", () => end(false), { once: true });
    trial.src = src;
  });
}

// Asked for until it is there: whoever asks first has it made. A service that is busy, or was killed meanwhile, is asked again.
async function made(href: string, signal?: AbortSignal, onProgress?: Wish["onProgress"]): Promise<string> {
  for (let failures = 0; ; ) {
    const answer = await fetch(href, { headers: { Range: "bytes=0-0" }, cache: "no-store", signal }).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      return null;
    });
    if (answer?.status === 202) {
      failures = 0;
      const { media_s, duration_s } = (await answer.json()) as { media_s: number; duration_s: number | null };
      onProgress?.(duration_s ? Math.min(media_s / duration_s, 1) : null);
    } else if (answer?.ok) return href;
    else {
      const problem = answer ? problemOf(await answer.text(), answer.status) : offline();
      if (answer?.status === 401) signIn();
      failures += 1;
      if ((answer && answer.status !== 503) || failures > PATIENCE) throw problem;
    }
    await wait(Number(answer?.headers.get("Retry-After") ?? 2), signal);
  }
}

function wait(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    }, { once: true });
  });
}
