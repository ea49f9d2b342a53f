// What went wrong: a Problem comes in; a card that says so in plain words and what to do, or one sentence, goes out, into the page's one alert
// if asked. What belongs at the field of a form is said there, by settings/faults.ts.

import { Problem, advice } from "./api";
import { byId, h } from "./dom";
import { fill, text } from "./text";

export interface Ways {
  // What it happened to, a file's name for one.
  about?: string;
  // What still holds in spite of it.
  note?: string;
  // How it is tried once more.
  again?: () => unknown;
}

// What is no Problem is a fault of the page's own, for whoever mends it too.
function known(problem: unknown): Problem {
  if (problem instanceof Problem) return problem;
  console.error(problem);
  return new Problem({ title: text.common.page_failed, detail: String(problem) });
}

// What was expected and what came; "" where the problem does not say.
export const difference = (problem: Problem): string =>
  problem.expected ? fill(text.common.expected, { expected: problem.expected, got: problem.got ?? "" }) : "";

export function problemCard(given: unknown, { about, note, again }: Ways = {}): HTMLElement {
  const problem = known(given);
  const hint = advice(problem);
  return h("div", { class: "problem" },
    about && h("p", { class: "about" }, h("bdi", {}, about)),
    h("h2", {}, problem.title),
    h("p", {}, problem.detail),
    problem.expected && h("p", { class: "fine" }, difference(problem)),
    hint && h("p", { class: "hint" }, hint),
    note && h("p", { class: "fine" }, note),
    problem.request_id && h("p", { class: "fine" }, fill(text.common.request, { id: problem.request_id })),
    again && h("p", {}, h("button", { type: "button", class: "quiet", onclick: () => void again() }, text.common.again)));
}

// In the page's one alert until it is dismissed; of one `kind` only the newest.
export function tell(problem: unknown, ways: Ways & { kind?: string } = {}): void {
  const place = byId("trouble");
  const { again, kind } = ways;
  if (kind) hush(kind);
  const shown = h("div", { class: "told", "data-kind": kind });
  const end = (): void => shown.remove();
  const tryAgain = again && ((): void => {
    end();
    again();
  });
  shown.append(problemCard(problem, { ...ways, again: undefined }), h("p", { class: "actions" },
    tryAgain && h("button", { type: "button", class: "button", onclick: tryAgain }, text.common.again),
    h("button", { type: "button", class: "quiet", onclick: end }, text.common.dismiss)));
  place.append(shown);
}

// What was told of a kind is no longer so.
export function hush(kind: string): void {
  for (const shown of byId("trouble").querySelectorAll(`[data-kind="${kind}"]`)) shown.remove();
}

// In one sentence, for where there is no room for a card.
export function sentence(given: unknown): string {
  const problem = known(given);
  return [`${problem.title}.`, problem.detail, difference(problem), advice(problem)].filter(Boolean).join(" ");
}
