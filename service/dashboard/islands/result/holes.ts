// Where nothing was judged: bands of the wire come in, stretches of media time with the reason in words go out. Drawn by lane.ts.
// The service finds them in all rows: of a thinned timeline nobody can tell a pause from a gap.

import { reason } from "../dom";
import { fill, text } from "../text";
import type { TimelineBand } from "../wire";

export interface Hole {
  from: number;
  to: number;
  word: string;
  // The face was there, and was looked at.
  seen: boolean;
}

// A frame is the same one within this.
export const SAME_S = 0.004;

const AWAY: Record<string, string> = { absent: text.result.away, no_face: text.result.no_face, gap: text.result.no_frames };

// Of a face, or of all: in order of time.
export function holes(bands: readonly TimelineBand[], track: number): Hole[] {
  return bands
    .filter((band) => band.track === null || band.track === track)
    .map((band) => ({ from: band.start_s, to: band.end_s, word: AWAY[band.reason] ?? fill(text.result.not_judged, { reason: reason(band.reason) }), seen: !(band.reason in AWAY) }));
}
