// Moments and lengths of time as settings and audit write them: ISO times and seconds come in, nodes and phrases go out.

import { ago, h } from "../dom";
import { fill, text } from "../text";

const DAY_MS = 86_400_000;

// A moment, to the minute; the whole of it on hover.
export function moment(iso: string, { seconds = false } = {}): HTMLElement {
  const at = new Date(iso);
  const shown = at.toLocaleString(undefined, {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined,
  });
  return h("time", { datetime: iso, title: iso }, shown);
}

export const since = (iso: string): HTMLElement => h("time", { datetime: iso, title: iso }, ago(iso));

// When something ends, and in how many days if that is soon enough to count them.
export function ends(iso: string | null): HTMLElement {
  if (iso === null) return h("span", {}, text.settings.never);
  const at = new Date(iso);
  const days = Math.ceil((at.getTime() - Date.now()) / DAY_MS);
  const day = at.toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
  const left = days > 0 && days <= 120 ? fill(days === 1 ? text.settings.in_a_day : text.settings.in_days, { n: days }) : null;
  return h("time", { datetime: iso, title: iso }, day, left && h("small", {}, ` ${left}`));
}

export function span(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 2 * 86_400 ? `${Math.round(seconds / 3600)} h` : fill(text.settings.days, { n: Math.round(seconds / 86_400) });
}

export const percent = (share: number): string => `${Number((share * 100).toFixed(2))} %`;
