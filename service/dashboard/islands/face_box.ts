// A face in a picture: where it is and what was judged come in, a box with its word, to lie over the picture, goes out.

import { probability, reason, s } from "./dom";
import { fill, text } from "./text";
import type { Box } from "./wire";

export interface SeenFace {
  track: number;
  p: number | null;
  reason: string | null;
  box: Box;
}

// A face's score at one look, or why it has none.
export function scored({ p, reason: why }: Pick<SeenFace, "p" | "reason">): string {
  if (p !== null) return probability(p);
  return why ? fill(text.common.not_judged_because, { why: reason(why) }) : text.common.warming_up;
}

// `wide` is the picture's width, in the same pixels as the box.
export function faceBox(face: SeenFace, threshold: number, wide: number): SVGElement {
  const [x0, y0, x1, y1] = face.box;
  const kind = face.p === null ? "unjudged" : face.p >= threshold ? "high" : "low";
  const size = Math.min(Math.max((x1 - x0) / 9, wide / 40), wide / 22);
  const word = `${kind === "high" ? "▲ " : ""}${scored(face)}`;
  return s("g", { class: kind, "data-track": face.track },
    s("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: size / 3 }),
    s("text", { x: x0, y: Math.max(y0 - size * 0.4, size), "font-size": size }, fill(text.common.face_scored, { track: face.track, word })));
}
