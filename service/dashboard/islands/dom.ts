// Words, numbers and elements: plain values come in, nodes and phrases go out. Text is always a text node, never markup.

import { fill, named, text } from "./text";
import type { Analysis, Status, VerdictName } from "./wire";

const SVG = "http://www.w3.org/2000/svg";
const GLYPHS: Record<VerdictName | Status, string> = {
  manipulated: "▲",
  no_evidence: "○",
  inconclusive: "◐",
  not_applicable: "–",
  queued: "…",
  running: "~",
  succeeded: "○",
  failed: "!",
  cancelled: "×",
};

type Value = string | number | boolean | null | undefined | EventListener | ((event: any) => unknown);
type Child = Node | string | number | null | undefined | false | Child[];

export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, Value> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  return furnish(document.createElement(tag), attributes, children);
}

export function s<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Record<string, Value> = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  return furnish(document.createElementNS(SVG, tag) as SVGElementTagNameMap[K], attributes, children);
}

function furnish<T extends Element>(node: T, attributes: Record<string, Value>, children: Child[]): T {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value as EventListener);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node: Element, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child !== null && child !== undefined && child !== false) node.append(child instanceof Node ? child : String(child));
  }
}

// The element with an id that the page's template has; a template without it is a mistake of ours.
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

export const reason = (code: string): string => named(text.reasons, code);

export const probability = (p: number | null | undefined): string => (p === null || p === undefined ? text.common.not_judged : p.toFixed(2));

export function clock(t: number): string {
  const sign = t < 0 ? "-" : "";
  const whole = Math.abs(t);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = whole % 60;
  if (hours) return `${sign}${hours}:${String(minutes).padStart(2, "0")}:${rest.toFixed(1).padStart(4, "0")}`;
  return minutes ? `${sign}${minutes}:${rest.toFixed(1).padStart(4, "0")}` : `${sign}${rest.toFixed(2)} s`;
}

export const seconds = (t: number): string => (t >= 3600 ? clock(t) : `${t >= 100 ? t.toFixed(0) : t.toFixed(1)} s`);

export function bytes(n: number | null): string {
  if (n === null) return text.common.unknown;
  const units = ["bytes", "kB", "MB", "GB"];
  let step = 0;
  for (; n >= 1000 && step < units.length - 1; step += 1) n /= 1000;
  return `${step ? n.toFixed(1) : n} ${units[step]}`;
}

export function ago(iso: string): string {
  const passed = (Date.now() - new Date(iso).getTime()) / 1000;
  if (passed < 60) return text.common.just_now;
  if (passed < 3600) return fill(text.common.minutes_ago, { n: Math.floor(passed / 60) });
  if (passed < 86400) return fill(text.common.hours_ago, { n: Math.floor(passed / 3600) });
  return new Date(iso).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function chip({ status, verdict }: Pick<Analysis, "status" | "verdict">): HTMLElement {
  const kind = status === "succeeded" && verdict ? verdict : status;
  return h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, GLYPHS[kind]), ` ${named(text.states, kind)}`);
}

// Reads a sentence aloud to whoever listens.
export function say(sentence: string): void {
  byId("say").textContent = sentence;
}
