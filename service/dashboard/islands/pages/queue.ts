// The queue's page: filters and keys come in, what waits for a reviewer and what this one has said go out, and refresh by themselves.

import { ask } from "../api";
import { Pages } from "../desk/pages";
import { queueRow, refreshAges, saidRow } from "../desk/queue_row";
import { welfareControls } from "../desk/welfare";
import type { LoggedReview, ReviewItem } from "../desk/wire";
import { type Wishes, asQuery, keepWishes, nextQuery, wishes } from "../desk/wishes";
import { byId, say } from "../dom";
import { type Me, may, me } from "../me";
import { fill, text } from "../text";
import { problemCard } from "../trouble";

const REFRESH_MS = 10_000;
const LIMIT = "25";
const form = byId<HTMLFormElement>("wishes");
const rows = byId("rows");
let wanted: Wishes = wishes();

const waiting = new Pages<ReviewItem>((cursor) => address("/v1/reviews/queue", asQuery(wanted), cursor));
const said = new Pages<LoggedReview>((cursor) => address("/v1/reviews", new URLSearchParams({ mine: "true" }), cursor));

function address(path: string, query: URLSearchParams, cursor: string | null): string {
  query.set("limit", LIMIT);
  if (cursor !== null) query.set("cursor", cursor);
  return `${path}?${query}`;
}

// ---- what waits

function draw(): void {
  const found = waiting.items;
  const focused = rows.contains(document.activeElement) ? links().indexOf(document.activeElement as HTMLAnchorElement) : -1;
  const id = (document.activeElement as HTMLElement | null)?.dataset.id;
  rows.replaceChildren(...found.map(queueRow));
  // Whoever stands on a row stays there, or at its place when it has gone.
  if (focused >= 0) (links().find((link) => link.dataset.id === id) ?? links()[Math.min(focused, found.length - 1)] ?? byId("view")).focus();
  byId("none").hidden = found.length > 0;
  byId("none").textContent = [...asQuery(wanted)].length ? text.queue.no_match : text.queue.nothing;
  byId("more").hidden = !waiting.hasMore;
}

const links = (): HTMLAnchorElement[] => [...rows.querySelectorAll<HTMLAnchorElement>("a[data-id]")];

const count = (): string => fill(waiting.hasMore ? text.queue.found_more : text.queue.found, { n: waiting.items.length });

async function choose(): Promise<void> {
  const given = new FormData(form);
  const chosen = (name: string): string => String(given.get(name) ?? "").trim();
  wanted = { q: chosen("q"), verdict: chosen("verdict"), state: chosen("state"), sort: chosen("sort"), min_severity: chosen("min_severity") };
  const [name, value] = chosen("age").split("=");
  if (value) wanted[name as "older_than_s" | "younger_than_s"] = value;
  keepWishes(wanted);
  waiting.reset();
  if (await attempt(() => waiting.refresh())) {
    draw();
    say(count());
  }
}

function showWishes(): void {
  const age = (["older_than_s", "younger_than_s"] as const).find((name) => wanted[name]);
  const values: Record<string, string> = { ...wanted, age: age ? `${age}=${wanted[age]}` : "" };
  for (const field of form.querySelectorAll<HTMLInputElement | HTMLSelectElement>("input, select")) field.value = values[field.name] ?? "";
}

// ---- what was said

function drawSaid(): void {
  byId("said").replaceChildren(...said.items.map(saidRow));
  byId("unsaid").hidden = said.items.length > 0;
  byId("older").hidden = !said.hasMore;
}

function showView(): void {
  const view = location.hash === "#mine" ? "mine" : "waiting";
  for (const name of ["waiting", "mine"]) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll<HTMLAnchorElement>(".queue-views a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

// ---- freshness and trouble

let timer = 0;
let fresh = new Date();

async function refresh(): Promise<void> {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    if (await waiting.refresh()) draw();
    if (await said.refresh()) drawSaid();
    refreshAges(rows);
    fresh = new Date();
    byId("fresh").textContent = count();
    byId("trouble").replaceChildren();
  } catch (problem) {
    trouble(problem, fill(text.queue.stale, { time: fresh.toLocaleTimeString() }));
  }
  timer = window.setTimeout(refresh, REFRESH_MS);
}

async function attempt(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    byId("trouble").replaceChildren();
    byId("fresh").textContent = count();
    return true;
  } catch (problem) {
    trouble(problem);
    return false;
  }
}

function trouble(problem: unknown, note?: string): void {
  const card = problemCard(problem, { note });
  // The same once more is not read aloud again.
  if (byId("trouble").textContent !== card.textContent) byId("trouble").replaceChildren(card);
}

// ---- wiring

async function start(): Promise<void> {
  try {
    const item = await ask<ReviewItem | undefined>(`/v1/reviews/next?${nextQuery()}`, { method: "POST" });
    if (item) return location.assign(`/analyses/${item.analysis.id}`);
    byId("fresh").textContent = text.queue.none_left;
    say(text.queue.none_left);
  } catch (problem) {
    trouble(problem);
  }
}

function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("waiting").hidden) return;
  if ((event.target as Element).matches("input, select, textarea")) return;
  const step = { j: 1, arrowdown: 1, k: -1, arrowup: -1 }[event.key.toLowerCase()];
  if (step === undefined) return;
  const all = links();
  const at = all.indexOf(document.activeElement as HTMLAnchorElement);
  all[Math.min(Math.max(at < 0 ? 0 : at + step, 0), all.length - 1)]?.focus();
  event.preventDefault();
}

async function open(person: Me): Promise<void> {
  if (!may(person, "reviews")) {
    byId("lacking").textContent = fill(text.queue.lacking, { name: person.name });
    byId("lacking").hidden = false;
    return;
  }
  byId("desk").hidden = byId("start").hidden = false;
  byId("welfare").append(welfareControls());
  showWishes();
  showView();
  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(choose, 250);
  });
  form.addEventListener("reset", () => setTimeout(choose)); // The fields are reset after their event.
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", async () => (await attempt(() => waiting.more())) && draw());
  byId("older").addEventListener("click", async () => (await attempt(() => said.more())) && drawSaid());
  byId("start").addEventListener("click", start);
  window.addEventListener("hashchange", showView);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", refresh);
  await refresh();
}

try {
  // Whoever is not signed in is led there by the question itself.
  await open((await me()) ?? (await ask<Me>("/v1/me")));
} catch (problem) {
  trouble(problem);
}
