// What `/v1/reviews` and `/v1/analyses/{id}/reviews` answer: the shapes of service/review_wire.py.

import type { Analysis, VerdictName } from "../wire";

export type Decision = "genuine" | "manipulated" | "unsure";
export type ItemState = "open" | "skipped" | "locked" | "second" | "disputed" | "decided";
export type Stage = "first" | "second" | "ruling" | "done";

export interface Lock {
  holder: string;
  mine: boolean;
  since: string;
  until: string;
}

export interface ReviewItem {
  analysis: Analysis & { finished_at: string | null };
  state: ItemState;
  waits_for: Stage;
  severity: { value: number; level: "low" | "medium" | "high" };
  skips: number;
  lock: Lock | null;
  outcome: Decision | null;
}

export interface Review {
  id: string;
  n: number;
  analysis_id: string;
  role: "first" | "second" | "ruling" | "skip";
  at: string;
  reviewer: string;
  mine: boolean;
  decision: Decision | null;
  reason: string;
  note: string | null;
  verdict: VerdictName;
  p: number | null;
}

// One line of `/v1/reviews`.
export interface LoggedReview extends Review {
  filename: string | null;
}

export interface Reviews {
  item: ReviewItem;
  sealed: number;
  reviews: Review[];
}
