// Codes of the wire and of this page come in, what a person reads goes out.

import type { Look } from "../state_chip";
import { fill, named, text } from "../text";

export type StateName = keyof typeof text.live_states;

export const LOOK_OF: Record<StateName, Look> = {
  off: "off",
  asking: "coming",
  connecting: "coming",
  running: "running",
  waiting: "cut",
  busy: "held",
  away: "paused",
  stopping: "coming",
};

export const missed = (cause: string, n: number): string =>
  fill(n === 1 ? text.live.one_picture : text.live.pictures, { n, why: named(text.drops, cause) });

export const gap = ({ cause }: { cause: string }): string => named(text.gaps, cause);

export const hint = (code: string | null): string => (text.hints as Record<string, string>)[code ?? ""] ?? "";
