// How much could be judged: coverage comes in, a bar with its legend goes out. Also below a live stream.

import { h, reason, s, seconds } from "../dom";
import { fill, text } from "../text";
import type { Judgement } from "../wire";

export function coverage({ coverage: cover }: Pick<Judgement, "coverage">): HTMLElement {
  const total = Math.max(cover.duration_s, 1e-9);
  const parts = [
    { word: text.result.judged, s: cover.judged_s, kind: "judged" },
    ...cover.reasons.map((one) => ({ word: reason(one.code), s: one.duration_s, kind: "missed" })),
  ].filter((part) => part.s > 0);
  let from = 0;
  const bar = s("svg", { class: "cover", viewBox: "0 0 1000 14", preserveAspectRatio: "none", "aria-hidden": "true" });
  parts.forEach((part, n) => {
    const width = (part.s / total) * 1000;
    bar.append(s("rect", { class: `${part.kind} c${n % 5}`, x: from, y: 0, width: Math.max(width - 3, 1), height: 14 }));
    from += width;
  });
  const faces = cover.faces_seen === 1 ? text.result.one_face_seen : text.result.faces_seen;
  return h("section", { class: "card" },
    h("h2", {}, fill(text.result.could_be_judged, { judged: seconds(cover.judged_s), duration: seconds(cover.duration_s) })),
    bar,
    h("ul", { class: "legend" }, parts.map((part, n) => h("li", {}, h("span", { class: `swatch ${part.kind} c${n % 5}` }), `${part.word} ${seconds(part.s)}`))),
    h("p", { class: "fine" }, fill(faces, { seen: cover.faces_seen, judged: cover.faces_judged })));
}
