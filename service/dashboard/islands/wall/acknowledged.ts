// Which alerts this browser's reader has seen to: names come in, are kept in the browser, and go out. Nobody else is told.

import { recall, remember } from "../remembered";

const STORED = "wall.acknowledged";
const MOST = 1000;

const kept = recall<unknown>("localStorage", STORED);
const names = new Set<string>(Array.isArray(kept) ? kept.filter((one) => typeof one === "string") : []);

export const isAcknowledged = (name: string): boolean => names.has(name);

export function acknowledge(...more: string[]): void {
  for (const name of more) names.add(name);
  for (const name of [...names].slice(0, Math.max(names.size - MOST, 0))) names.delete(name);
  remember("localStorage", STORED, [...names]);
}
