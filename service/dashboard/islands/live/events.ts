// What the service says on a live stream, as far as the page reads it: the shapes of service/stream_wire.py.

import type { Judgement, Moment, TimelineRow } from "../wire";

export interface Allowance {
  media: number;
  bytes: number;
}

interface Numbered {
  event_seq: number | null;
}

export interface Ready extends Numbered {
  type: "ready";
  session_id: string;
  token: string;
  threshold: number;
  hz: number;
  credit: Allowance;
}

export interface Score extends Numbered {
  type: "score";
  at: Moment;
  stamp: number;
  p: number | null;
  faces: TimelineRow[];
  latency_s: number;
  capture_epoch_us: number | null;
  stands_for: number;
}

export interface FaceChange extends Numbered {
  type: "face";
  track: number;
  state: "appeared" | "left";
  at: Moment;
}

export interface Gap extends Numbered {
  type: "gap";
  cause: string;
  start: Moment;
  end: Moment;
  seconds: number;
}

export interface Drop extends Numbered {
  type: "drop";
  cause: string;
  n: number;
}

export interface Credit extends Numbered {
  type: "credit";
  credit: Allowance;
  received: Allowance;
}

export interface Stats extends Numbered {
  type: "stats";
  received: Allowance;
}

export interface Failure extends Numbered {
  type: "error";
  title: string;
  detail: string;
  retryable: boolean;
  retry_after_s: number | null;
}

export interface End extends Numbered {
  type: "end";
  reason: "stopped" | "source_ended" | "idle" | "failed" | "draining";
  verdict: Judgement | null;
  totals: { looked_at: number };
}

interface Source extends Numbered {
  type: "source";
}

export type SessionEvent = Ready | Source | Score | FaceChange | Gap | Drop | Credit | Stats | Failure | End;

// Answers outside of the numbered events.
export interface Resumed {
  type: "resumed";
  last_media_seq: number | null;
  credit: Allowance;
  received: Allowance;
}

interface ResumeFailed {
  type: "resume_failed";
}

interface Pong {
  type: "pong";
}

export type ServerMessage = SessionEvent | Resumed | ResumeFailed | Pong;
