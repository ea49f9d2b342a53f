// How far something is: amounts at moments come in, shares, bars and how long it will take go out in words.

import { clock, h } from "../dom";
import { fill, text } from "../text";
import type { Analysis, Progress } from "../wire";

const WINDOW_S = 12;
const ENOUGH_S = 1.5;

// The speed of late, measured on this page's own clock; nothing is said before there is enough to say it from.
export class Pace {
  #seen: { at: number; done: number }[] = [];

  saw(done: number, now = performance.now() / 1000): void {
    if (done < (this.#seen.at(-1)?.done ?? 0)) this.#seen = [];
    this.#seen = [...this.#seen.filter((one) => one.at > now - WINDOW_S), { at: now, done }];
  }

  // Seconds until `total` at this speed; null while nobody knows.
  left(total: number): number | null {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (!first || !last || last.at - first.at < ENOUGH_S || last.done <= first.done) return null;
    return ((total - last.done) * (last.at - first.at)) / (last.done - first.done);
  }
}

export function bar(share: number | null, label: string): HTMLProgressElement {
  const shown = h("progress", { max: 1, "aria-label": label });
  if (share !== null) shown.value = Math.min(share, 1);
  return shown;
}

export function left(seconds: number | null): string | null {
  if (seconds === null || seconds < 1) return null;
  if (seconds < 90) return fill(text.videos.seconds_left, { n: Math.ceil(seconds / 5) * 5 });
  return fill(seconds < 5400 ? text.videos.minutes_left : text.videos.hours_left, { n: Math.ceil(seconds / (seconds < 5400 ? 60 : 3600)) });
}

export const share = (progress: Progress | null): number | null => (progress?.duration_s ? progress.media_s / progress.duration_s : null);

// What is known of an analysis that runs, in one line.
export function looked(analysis: Analysis, pace: Pace): string {
  const { progress, status } = analysis;
  if (!progress) return status === "queued" ? text.videos.waits : text.videos.opening;
  const { media_s, duration_s, frames_analysed, faces } = progress;
  const words = [
    duration_s ? fill(text.videos.looked_of, { t: clock(media_s), all: clock(duration_s) }) : fill(text.videos.looked, { t: clock(media_s) }),
    fill(frames_analysed === 1 ? text.videos.frame : text.videos.frames, { n: frames_analysed }),
    fill(faces === 1 ? text.videos.face : text.videos.faces, { n: faces }),
    duration_s ? left(pace.left(duration_s)) : null,
  ];
  return words.filter(Boolean).join(", ");
}
