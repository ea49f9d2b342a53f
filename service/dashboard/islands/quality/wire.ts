// What `/v1/reviews/quality`, `/v1/policy`, `/v1/reviews/thresholds` and `/v1/thresholds` answer.

export interface Share {
  k: number;
  n: number;
  share: number | null;
  low: number | null;
  high: number | null;
}

export interface Times {
  n: number;
  median_s: number | null;
  p90_s: number | null;
}

export interface Quality {
  since: string;
  until: string;
  days: { day: string; decided: number; skipped: number }[];
  to_decision: Times;
  open: Times;
  agreement: { same: Share; kappa: number | null };
  rulings: { disputes: number; overturned: Share };
  skips: Record<string, number>;
  false_positives: Share;
  false_negatives: Share;
  drift: { n: number; n_before: number; histogram: number[]; histogram_before: number[]; psi: number | null; by_chance: number | null };
}

export interface Policy {
  version: number;
  text: string;
  at: string | null;
  author: string | null;
}

export interface Effect {
  threshold: number;
  false_positives: Share;
  misses: Share;
}

export interface Point {
  threshold: number;
  false_positives: number;
  misses: number;
}

export interface Proposal {
  fpr: number;
  genuine: number;
  manipulated: number;
  left_out: { unsure: number; incomparable: number; not_judged: number; repeated: number };
  needed: number;
  present_version: number;
  present: Effect;
  proposed: Effect | null;
  curve: Point[];
}

export interface Threshold {
  version: number;
  shipped: boolean;
  threshold: number;
  target_fpr: number;
  note: string | null;
  at: string | null;
  author: string | null;
}
