// What `/v1/feeds` shows and tells, as far as the wall reads it: the shapes of service/feed_wire.py and service/wall_wire.py.

import type { Box, Moment, ProblemBody } from "../wire";

export type FeedState = "waiting" | "connecting" | "running" | "stalled" | "reconnecting" | "paused" | "failed" | "ended" | "elsewhere";

export interface Media {
  codec: string;
  width: number;
  height: number;
}

export interface Feed {
  id: string;
  name: string | null;
  url: string;
  rule: { threshold: number | null; min_s: number; cooldown_s: number };
  paused: boolean;
  state: FeedState;
  since: string;
  live: {
    next_retry_s: number | null;
    code: string | null;
    problem: ProblemBody | null;
    media: Media | null;
    threshold: number;
    event_seq: number;
    totals: { since: string; looks: number; judged: number; gaps: number; gap_s: number; drops: Record<string, number>; alerts: number };
  } | null;
  links: { self: string };
}

export interface FeedPage {
  items: Feed[];
  next: string | null;
}

export interface Alert {
  feed_id: string;
  n: number | null;
  state: "open" | "ended";
  track: number;
  began: Moment;
  seconds: number;
  peak: { at: Moment; p: number };
  told_at: string;
  ended_at: string | null;
  clip: { bytes: number } | null;
  links: Partial<Record<"still" | "clip", string>>;
}

// About a second of looks; `arrived_at` is unix seconds by the service's clock.
export interface Looks {
  type: "looks";
  event_seq: number;
  arrived_at: number;
  p: number | null;
  looks: number;
  faces: number;
  latency_s: number;
}

export interface StateChange {
  type: "state";
  event_seq: number;
  state: FeedState;
  since: string;
  next_retry_s: number | null;
  code: string | null;
  problem: ProblemBody | null;
  media: Media | null;
}

interface GapEvent {
  type: "gap";
  event_seq: number;
}

interface AlertEvent {
  type: "alert";
  event_seq: number;
  change: "began" | "ended" | "clip";
  alert: Alert;
}

export interface OfFeed {
  feed_id: string;
  event: Looks | StateChange | GapEvent | AlertEvent;
}

export type Sample = [arrived_at: number, p: number | null];

export interface History {
  feed_id: string;
  looks: Sample[];
}

export interface Hello {
  at: number;
  resumed: boolean;
}

// What the header of a still says.
export interface Look {
  at: Moment;
  arrived_at: number;
  p: number | null;
  faces: { track: number; p: number | null; reason: string | null; box: Box }[];
}
