// How something that goes on by itself stands: its look and a word come in, a chip goes out. Each look has a glyph, so that its colour is
// never alone, and means the same on every page.

import { h } from "./dom";

export type Look = "off" | "coming" | "running" | "paused" | "held" | "cut" | "failed" | "over";

const LOOKS: Record<Look, { glyph: string; kind: string }> = {
  off: { glyph: "○", kind: "" },
  coming: { glyph: "…", kind: "" },
  running: { glyph: "●", kind: "running" },
  paused: { glyph: "❚❚", kind: "" },
  // It waits for somebody else,
  held: { glyph: "…", kind: "failed" },
  // or was running, and is not for the moment;
  cut: { glyph: "!", kind: "failed" },
  // nor will it be unless a person does something.
  failed: { glyph: "×", kind: "manipulated" },
  over: { glyph: "–", kind: "" },
};

// `state` is what the page calls it, for styles and tests.
export function stateChip(look: Look, word: string, state: string): HTMLElement {
  return dress(h("span"), look, word, state);
}

// A chip that is in the page already becomes that of another state.
export function dress<T extends HTMLElement>(chip: T, look: Look, word: string, state: string): T {
  const { glyph, kind } = LOOKS[look];
  chip.className = `chip ${kind}`.trim();
  chip.dataset.state = state;
  chip.replaceChildren(h("span", { "aria-hidden": "true" }, glyph), ` ${word}`);
  return chip;
}
