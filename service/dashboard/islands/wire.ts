// What `/v1` answers, as far as the pages read it: the shapes of service/schemas.py. A time is media seconds beside its exact pts.

export type VerdictName = "manipulated" | "no_evidence" | "inconclusive" | "not_applicable";
export type Status = "queued" | "running" | "succeeded" | "failed" | "cancelled";

export interface Moment {
  t: number;
  pts: number;
  time_base: [number, number];
}

export interface Score {
  p: number | null;
  low: number | null;
  high: number | null;
  calibration_id: string;
}

export interface Segment {
  start: Moment;
  end: Moment;
  score: Score;
  track_ids: number[];
}

export interface Crop {
  k: number;
  at: Moment;
  p: number | null;
}

// Log-odds: `base` and every number of `shares` add up to `logit`.
export interface Ledger {
  logit: number;
  base: number;
  shares: { start: Moment; end: Moment; judged: number; appearance: number; motion: number }[];
}

export interface Track {
  id: number;
  first: Moment;
  last: Moment;
  observations: number;
  judged: number;
  score: Score;
  reason: string | null;
  time_constants_s: [number, number, number] | null;
  crops: Crop[];
  // Null without a score; missing in results from before there were ledgers.
  ledger?: Ledger | null;
}

export interface Coverage {
  duration_s: number;
  judged_s: number;
  faces_seen: number;
  faces_judged: number;
  reasons: { code: string; duration_s: number }[];
}

export interface Judgement {
  verdict: VerdictName;
  sentence: string;
  score: Score;
  threshold: number;
  // Of those that the tenant chose; 0: as the weights came.
  threshold_version: number;
  target_fpr: number;
  reasons: string[];
  coverage: Coverage;
  segments: Segment[];
  tracks: Track[];
}

export interface Media {
  sha256: string | null;
  container: string;
  codec: string;
  width: number;
  height: number;
  size_bytes: number | null;
  frames_decoded: number;
  frames_analysed: number;
}

export interface Time {
  provenance: string;
  nominal_fps: number | null;
  true_fps: number | null;
  min_dt_s: number | null;
  median_dt_s: number | null;
  max_dt_s: number | null;
  variable: boolean;
  index_error_s: number | null;
  gaps: { start_s: number; end_s: number }[];
  gap_count: number;
  duplicates: number;
  no_pts: number;
  backward: number;
  epochs: number;
  corrupt: number;
  tainted: number;
  partial: number;
  decode_errors: number;
}

export interface ContentCredentials {
  state: "none" | "valid" | "invalid" | "unreadable";
  claim_generator: string | null;
  issuer: string | null;
  signer: string | null;
  signed_at: string | null;
  actions: { action: string; agent: string | null; source_type: string | null }[];
  problems: string[];
}

export interface Model {
  name: string;
  version: string;
  weights_sha256: string;
  crop_version: number;
  calibration_id: string;
}

export interface Result extends Judgement {
  models: Model[];
  media: Media;
  time: Time;
  content_credentials?: ContentCredentials | null;
  warnings: { code: string; detail: string }[];
}

export interface Progress {
  frames_decoded: number;
  frames_analysed: number;
  media_s: number;
  duration_s: number | null;
  faces: number;
}

export interface ProblemBody {
  type: string;
  title: string;
  detail: string;
  status?: number;
  expected?: string | null;
  got?: string | null;
  request_id?: string | null;
  errors?: { pointer: string; detail: string }[];
}

export interface Analysis {
  id: string;
  external_id: string | null;
  filename: string | null;
  source_url: string | null;
  status: Status;
  created_at: string;
  progress: Progress | null;
  verdict: VerdictName | null;
  sentence: string | null;
  p: number | null;
  result?: Result | null;
  problem: ProblemBody | null;
  links: Record<"self" | "timeline" | "media" | "report" | "pack" | "plot", string>;
}

export interface AnalysisPage {
  items: Analysis[];
  next: string | null;
}

export type Box = [number, number, number, number];

export interface TimelineRow {
  track: number;
  pts: number;
  t: number;
  dt: number | null;
  logit: number | null;
  p: number | null;
  surprise: number | null;
  box: Box;
  reason: string | null;
  flags: string[];
}

export interface Timeline {
  time_base: [number, number];
  threshold: number;
  frame_pts: number[];
  rows: TimelineRow[];
  // Of a part that was thinned: how many rows it has in truth.
  total_rows?: number | null;
  // Of a part, found before it was thinned.
  bands?: TimelineBand[] | null;
}

export interface TimelineBand {
  track: number | null;
  start_s: number;
  end_s: number;
  reason: string;
}
