// Faces and moments: a result comes in; its segments as jump marks, and each face with crops and where seams were seen, go out.

import { clock, h, probability, reason } from "../dom";
import { fill, text } from "../text";
import type { Analysis, Result, Track } from "../wire";

export type Go = (t: number, track?: number) => void;

export function segments(result: Result, go: Go): HTMLElement | null {
  if (!result.segments.length) return null;
  return h("section", { class: "card" }, h("h2", {}, text.result.where),
    h("ol", { class: "segments" }, result.segments.map((segment) =>
      h("li", {}, h("button", { type: "button", class: "jump", onclick: () => go(segment.start.t, segment.track_ids[0]) },
        h("b", {}, fill(text.result.range, { from: clock(segment.start.t), to: clock(segment.end.t) })),
        ` ${fill(text.result.segment, { p: probability(segment.score.p), faces: segment.track_ids.join(", ") })}`)))));
}

export function faces(analysis: Analysis, result: Result, go: Go): HTMLElement | null {
  if (!result.tracks.length) return null;
  const toggle = h("input", { type: "checkbox", id: "seams" });
  const strip = h("div", { class: "faces" }, result.tracks.map((track) => face(analysis, track, go)));
  toggle.addEventListener("change", () => strip.classList.toggle("seams", toggle.checked));
  const hasCrops = result.tracks.some((track) => track.crops.length);
  return h("section", { class: "card" },
    h("div", { class: "split" }, h("h2", {}, text.result.faces),
      hasCrops && h("label", { class: "switch", for: "seams" }, toggle, ` ${text.result.show_seams}`)),
    strip);
}

function face(analysis: Analysis, track: Track, go: Go): HTMLElement {
  const base = `${analysis.links.self}/tracks/${track.id}/crops`;
  const judged = track.score.p !== null;
  const told = judged ? fill(text.result.p, { p: probability(track.score.p) }) : fill(text.result.not_judged, { reason: reason(track.reason ?? "too_short") });
  const life = { from: clock(track.first.t), to: clock(track.last.t), judged: track.judged, observations: track.observations };
  const [quick, , slow] = track.time_constants_s ?? [null, null, null];
  return h("section", { class: "face" },
    h("h3", {}, fill(text.result.face, { n: track.id }), h("span", { class: "face-score" }, ` ${told}`)),
    h("p", { class: "fine" }, fill(text.result.life, life)),
    quick !== null && slow !== null && h("p", { class: "fine" }, fill(text.result.memory, { quick: quick.toFixed(2), slow: slow.toFixed(2) })),
    h("div", { class: "crops" }, track.crops.map((crop) =>
      h("button", { type: "button", class: "crop", title: text.result.go, onclick: () => go(crop.at.t, track.id) },
        h("span", { class: "pair" },
          h("img", { src: `${base}/${crop.k}`, alt: fill(text.result.crop, { n: track.id, t: clock(crop.at.t) }), loading: "lazy" }),
          h("img", { class: "seam", src: `${base}/${crop.k}?layer=boundary`, alt: "", loading: "lazy" })),
        h("span", { class: "caption" }, clock(crop.at.t),
          h("b", {}, ` ${crop.p === null ? text.common.not_judged : fill(text.result.p, { p: probability(crop.p) })}`))))));
}
