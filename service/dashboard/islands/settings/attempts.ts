// Attempts at a delivery: what came of each comes in, a line with its status, time and answer goes out.

import { h } from "../dom";
import { text } from "../text";
import { moment, span } from "./words";
import type { Attempt } from "./wire";

export function attempt({ at, duration_s: took, status_code: code, answer, error }: Attempt): HTMLElement {
  const good = code !== null && code >= 200 && code < 300;
  return h("div", { class: "attempt" },
    h("p", { class: "line" },
      h("span", { class: good ? "chip running" : "chip failed" }, code === null ? text.webhooks.no_answer : `HTTP ${code}`),
      h("span", { class: "fine" }, moment(at, { seconds: true }), ` · ${span(took)}`)),
    error && h("p", { class: "warn" }, error),
    // Whatever a stranger's host says.
    answer && h("pre", { class: "answer", tabindex: 0, role: "group", "aria-label": text.webhooks.answer }, answer));
}
