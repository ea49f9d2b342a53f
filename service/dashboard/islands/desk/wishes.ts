// What a reviewer wants to see of the queue: the filters of /queue are kept for this tab, and the next analysis is chosen by them too.

import { recall, remember } from "../remembered";

export const WISHES = ["verdict", "state", "sort", "min_severity", "older_than_s", "younger_than_s", "q"] as const;
export type Wishes = Partial<Record<(typeof WISHES)[number], string>>;

export const wishes = (): Wishes => recall<Wishes>("sessionStorage", "queue") ?? {};

export const keepWishes = (wanted: Wishes): void => remember("sessionStorage", "queue", wanted);

export function asQuery(wanted: Wishes): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of WISHES) if (wanted[name]) query.set(name, wanted[name]);
  return query;
}

// Whoever looked at what is decided still wants something undecided next.
export function nextQuery(): URLSearchParams {
  const query = asQuery(wishes());
  query.delete("state");
  return query;
}
