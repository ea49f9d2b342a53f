// How it is with a feed: its state comes in, a chip and a sentence for people go out.

import { type Look, stateChip } from "../state_chip";
import { fill, text } from "../text";
import { serviceNow } from "./service_clock";
import type { FeedState, StateChange } from "./wire";

export type Condition = Pick<StateChange, "state" | "since" | "next_retry_s" | "code" | "problem">;

const LOOK_OF: Record<FeedState | "seat", Look> = {
  running: "running",
  connecting: "coming",
  waiting: "held",
  seat: "held",
  stalled: "cut",
  reconnecting: "cut",
  failed: "failed",
  paused: "paused",
  ended: "over",
  elsewhere: "over",
};
const LASTING: FeedState[] = ["waiting", "stalled", "reconnecting", "failed", "connecting"];

// What a feed is counted as.
export const kindOf = ({ state, code }: Pick<Condition, "state" | "code">): FeedState | "seat" => (state === "waiting" && code === "overloaded" ? "seat" : state);

export function chipOf(condition: Condition): HTMLElement {
  const name = kindOf(condition);
  return stateChip(LOOK_OF[name], text.feed_states[name], name);
}

// Why it is so, for how long, and when it is tried again; "" when all is well. `told_at` by performance.now().
export function sentenceOf({ state, since, next_retry_s, code, problem }: Condition, told_at: number): string {
  if (!LASTING.includes(state)) return state === "elsewhere" ? text.wall.elsewhere : "";
  const parts: string[] = [];
  const why = (text.feed_codes as Record<string, string>)[code ?? ""] ?? problem?.detail ?? code?.replaceAll("-", " ");
  if (why) parts.push(why);
  const lasted = serviceNow() - new Date(since).getTime() / 1000;
  if (state !== "failed" && lasted >= 2) parts.push(lasted < 90 ? fill(text.wall.for_seconds, { n: Math.round(lasted) }) : fill(text.wall.for_minutes, { n: Math.round(lasted / 60) }));
  const left = next_retry_s === null ? null : Math.ceil(next_retry_s - (performance.now() - told_at) / 1000);
  if (left !== null && left > 0) parts.push(fill(text.common.trying_again, { n: left }));
  return parts.join(" ");
}
