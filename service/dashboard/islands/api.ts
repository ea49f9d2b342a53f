// The wire: requests to /v1 go out, analyses or Problems come in.

import { fill, text } from "./text";
import type { Analysis, ProblemBody, Progress } from "./wire";

export class Problem extends Error implements ProblemBody {
  type: string;
  title: string;
  detail: string;
  status?: number;
  expected?: string | null;
  got?: string | null;
  request_id?: string | null;
  errors?: ProblemBody["errors"];
  // Of the answer's head: when to ask again.
  retry_after_s?: number;
  // What to do, where the catalogue knows no advice for its type.
  hint?: string;

  constructor(body: Partial<ProblemBody> & { title: string; detail: string; retry_after_s?: number; hint?: string }) {
    super(body.title);
    this.type = body.type ?? "about:blank";
    this.title = body.title;
    this.detail = body.detail;
    Object.assign(this, body);
  }
}

export const slug = (problem: Problem): string => problem.type.split(":").pop() ?? "";

export const advice = (problem: Problem): string | null => (text.advice as Record<string, string>)[slug(problem)] ?? problem.hint ?? null;

export const offline = (): Problem =>
  new Problem({ type: "urn:undercurrent:problem:no-connection", title: text.common.no_answer, detail: text.common.connection_failed });

export function problemOf(body: string, status: number, retryAfter: string | null = null): Problem {
  const waited = Number(retryAfter ?? undefined);
  const said = Number.isFinite(waited) ? { retry_after_s: waited } : {};
  try {
    return new Problem({ ...(JSON.parse(body) as ProblemBody), ...said });
  } catch {
    return new Problem({ title: text.common.unexpected, detail: fill(text.common.answered, { status }), status, ...said });
  }
}

// Whether asking again would be answered alike.
export const isFinal = ({ status = 0 }: Problem): boolean => status >= 400 && status < 500 && status !== 408 && status !== 429;

// The problem with which `path` is refused now; null: it is not, or nobody answers. Leads nobody away from the page.
export async function refusalOf(path: string, signal?: AbortSignal): Promise<Problem | null> {
  const response = await fetch(path, { signal: signal ?? null, cache: "no-store" }).catch(() => null);
  return response && !response.ok ? problemAt(response) : null;
}

// What an answer that is a refusal says.
export async function problemAt(response: Response): Promise<Problem> {
  return problemOf(await response.text().catch(() => ""), response.status, response.headers.get("Retry-After"));
}

// Several requests hear at once that the session has ended, and a second way there would break off the first.
let leaving = false;
window.addEventListener("pageshow", () => (leaving = false)); // Whoever goes back finds the page as it was left.

// Where a key is asked for; it leads back to this page.
export function signIn(): void {
  if (leaving) return;
  leaving = true;
  location.assign(`/sign-in?${new URLSearchParams({ next: location.pathname })}`);
}

async function answered(path: string, options: RequestInit): Promise<Response> {
  const response = await fetch(path, options).catch((error: unknown) => {
    throw error instanceof DOMException && error.name === "AbortError" ? error : offline();
  });
  if (response.status === 401) signIn();
  if (!response.ok && response.status !== 304) throw await problemAt(response);
  return response;
}

export async function ask<T>(path: string, options: RequestInit = {}): Promise<T> {
  const response = await answered(path, options);
  return response.status === 204 ? (undefined as T) : parsed<T>(response);
}

// The same with its ETag; null: it is still what `etag` names.
export async function askAgain<T>(path: string, etag: string | null): Promise<{ body: T; etag: string | null } | null> {
  const response = await answered(path, etag === null ? {} : { headers: { "If-None-Match": etag } });
  return response.status === 304 ? null : { body: await parsed<T>(response), etag: response.headers.get("ETag") };
}

async function parsed<T>(response: Response): Promise<T> {
  // A body that breaks off is a lost connection, whatever the parser thinks of its first half.
  const body = await response.text().catch(() => {
    throw offline();
  });
  return JSON.parse(body) as T;
}

export interface Upload {
  done: Promise<Analysis>;
  stop: () => void;
}

// fetch cannot tell how much of a body it has sent; XMLHttpRequest can. A stopped one ends with null. The same `key` makes no second analysis.
export function upload(file: File, onShare: (share: number) => void, key: string): Upload {
  const request = new XMLHttpRequest();
  const done = new Promise<Analysis>((resolve, reject) => {
    request.open("POST", "/v1/analyses");
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.addEventListener("progress", (event) => onShare(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status === 401) signIn();
      if (request.status < 300) resolve(JSON.parse(request.responseText) as Analysis);
      else reject(problemOf(request.responseText, request.status));
    });
    request.addEventListener("error", () => reject(offline()));
    request.addEventListener("abort", () => reject(null));
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
  return { done, stop: () => request.abort() };
}

export interface Followed {
  onState?: (state: Partial<Analysis>) => void;
  onProgress?: (progress: Progress) => void;
  onEnd?: (analysis: Analysis) => void;
  onGone?: () => void;
  onLost?: () => void;
}

// One analysis until its end; EventSource reconnects by itself, and the first event is always the present state.
export function follow(id: string, { onState, onProgress, onEnd, onGone, onLost }: Followed): () => void {
  const source = new EventSource(`/v1/analyses/${id}/events`);
  source.addEventListener("state", (event) => onState?.(JSON.parse(event.data)));
  source.addEventListener("progress", (event) => onProgress?.(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    source.close();
    onEnd?.(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) onGone?.();
    else onLost?.();
  });
  return () => source.close();
}
