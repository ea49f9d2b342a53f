// What `/v1/me`, `/v1/keys`, `/v1/webhooks` and `/v1/system` answer, as far as the settings read it.

import type { Me as Person } from "../me";

export interface Page<T> {
  items: T[];
  next: string | null;
}

// Who it is, and how much of the service is theirs.
export interface Me extends Person {
  limits: { unfinished_analyses: number; kept_bytes: number };
  used: { unfinished_analyses: number; kept_bytes: number };
}

export interface Key {
  id: string;
  name: string;
  scopes: string[];
  state: "valid" | "expired" | "revoked";
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
}

export type NewKey = Key & { secret: string };

export interface Webhook {
  id: string;
  url: string;
  events: string[] | null;
  description: string | null;
  created_at: string;
  enabled: boolean;
  disabled: "asked" | "gone" | "failing" | null;
  failing_since: string | null;
  previous_secrets_until: string | null;
  links: Record<"self" | "deliveries" | "test" | "rotate", string>;
}

export type WebhookWithSecret = Webhook & { secret: string };

export interface Attempt {
  n: number;
  at: string;
  duration_s: number;
  status_code: number | null;
  answer: string;
  error: string | null;
}

export interface Delivery {
  id: string;
  event_id: string;
  event: string;
  status: "pending" | "delivered" | "failed";
  created_at: string;
  next_attempt_at: string | null;
  attempts: Attempt[];
  links: Record<"self" | "replay", string>;
}

export interface Reach {
  kind: string;
  reachable: boolean;
  trouble: string | null;
}

export interface Setting {
  group: string;
  variable: string;
  unit: "days" | "s" | "bytes" | "per_s" | "per_minute" | "share" | "count" | "words";
  value: number | string[] | null;
  is_default: boolean;
}

export interface Finding {
  severity: "unsafe" | "warning" | "info";
  code: string;
  says: string;
  do: string;
}

export interface System {
  version: string;
  replica: string;
  stopping: boolean;
  model: {
    name: string;
    version: string;
    weights_sha256: string;
    calibration_id: string;
    crop_version: number;
    threshold: number;
    doubt_threshold: number;
    target_fpr: number;
  };
  database: Reach;
  store: Reach;
  disk_free_bytes: number;
  queue: { queued: number; running: number; oldest_age_s: number; workers: number } | null;
  webhooks: { pending: number; oldest_age_s: number; overdue_s: number } | null;
  live: {
    streams: number;
    max_streams: number;
    refused: number;
    feeds: Record<string, number>;
    scored: number;
    mean_s: number | null;
    p95_s: number | null;
    target_s: number;
    hz: number;
    full_hz: number;
  };
  gpus: { name: string; used_bytes: number; total_bytes: number; own_bytes: number }[];
  settings: Setting[];
  findings: Finding[] | null;
}
