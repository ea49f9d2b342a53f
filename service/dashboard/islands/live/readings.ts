// What is told in numbers and words beside the picture: events come in, the page's readings change, and what matters is said aloud, politely.

import { byId, clock, h, probability, say, seconds } from "../dom";
import { scored } from "../face_box";
import { dress } from "../state_chip";
import { fill, text } from "../text";
import type { TimelineRow } from "../wire";
import type { FaceChange, Gap, Score } from "./events";
import { LOOK_OF, type StateName, gap, hint, missed } from "./words";

const NOTES = 6;
const RECENT_MS = 3000; // Over which looks a second are counted.
const MEDIAN_OF = 15;

export class Readings {
  #threshold = 1;
  #faces = new Map<number, { row: TimelineRow; high: boolean }>(); // By track.
  #missed = new Map<string, number>(); // How many, by cause.
  #arrivals: number[] = [];
  #latencies: number[] = [];
  #looks = 0;
  #countdown = 0;

  begin(threshold: number): void {
    this.#threshold = threshold;
    [this.#arrivals, this.#latencies, this.#looks] = [[], [], 0];
    this.#faces.clear();
    this.#missed.clear();
    this.#drawFaces();
    this.#drawMissed();
    this.#hint(null);
    for (const id of ["latency", "rate", "time"]) byId(id).textContent = "–";
    byId("looks").textContent = "0";
    byId("line-words").textContent = "";
  }

  // `retryAt` by performance.now(), counted down.
  state(name: StateName, { why = "", retryAt = null }: { why?: string; retryAt?: number | null } = {}): void {
    const word = text.live_states[name];
    const chip = byId("state");
    if (chip.dataset.state !== name) {
      dress(chip, LOOK_OF[name], word, name);
      say(`${word}. ${why}`);
    }
    clearInterval(this.#countdown);
    const tell = (): void => {
      const left = retryAt === null ? "" : ` ${fill(text.common.trying_again, { n: Math.max(Math.ceil((retryAt - performance.now()) / 1000), 0) })}`;
      byId("why").textContent = `${why}${left}`;
    };
    tell();
    if (retryAt !== null) this.#countdown = setInterval(tell, 250);
  }

  look(event: Score, age_s: number): void {
    this.#looks += event.stands_for;
    this.#arrivals.push(performance.now());
    this.#arrivals = this.#arrivals.filter((at) => performance.now() - at < RECENT_MS);
    this.#latencies = [...this.#latencies, age_s].slice(-MEDIAN_OF);
    const median = this.#latencies.toSorted((a, b) => a - b)[this.#latencies.length >> 1] ?? age_s;
    byId("latency").textContent = median < 1 ? `${Math.round(median * 1000)} ms` : seconds(median);
    byId("rate").textContent = (this.#arrivals.length / (RECENT_MS / 1000)).toFixed(1);
    byId("looks").textContent = String(this.#looks);
    byId("time").textContent = clock(event.at.t);
    const highest = event.p === null ? text.live.nobody_now : fill(text.live.highest_now, { p: probability(event.p) });
    byId("line-words").textContent = fill(text.live.counts_from, { highest, threshold: probability(this.#threshold) });
    for (const row of event.faces) {
      const before = this.#faces.get(row.track)?.high ?? false;
      const high = row.p === null ? before : row.p >= this.#threshold;
      this.#faces.set(row.track, { row, high });
      if (high && !before) this.note(row.t, fill(text.live.went_above, { track: row.track, p: probability(row.p) }), "high");
      else if (!high && before) this.note(row.t, fill(text.live.went_below, { track: row.track }));
    }
    this.#drawFaces(event.faces.map((row) => row.track));
    this.#hint(event.p !== null ? null : event.faces[0] ? event.faces[0].reason : "no_face");
  }

  face({ track, state, at }: FaceChange): void {
    if (state === "left") this.#faces.delete(track);
    this.note(at.t, fill(state === "left" ? text.live.face_left : text.live.face_appeared, { track }));
    this.#drawFaces();
  }

  gap(event: Gap): void {
    if (event.seconds >= 0.5 || event.cause !== "missing") this.note(event.end.t, fill(text.live.gap_of, { seconds: seconds(event.seconds), why: gap(event) }), "warn");
  }

  missed(cause: string, n: number): void {
    this.#missed.set(cause, (this.#missed.get(cause) ?? 0) + n);
    this.#drawMissed();
  }

  // What was left out, in words.
  get left(): string[] {
    return [...this.#missed].map(([cause, n]) => missed(cause, n));
  }

  note(t: number | null, words: string, kind: "high" | "warn" | null = null): void {
    const list = byId("notes");
    list.querySelector(".nothing")?.remove();
    list.prepend(h("li", { class: kind }, h("time", {}, t === null ? "" : clock(t)), ` ${words}`));
    while (list.children.length > NOTES) list.lastChild?.remove();
    if (kind) say(words);
  }

  #drawFaces(seen: number[] = []): void {
    const faces = [...this.#faces].map(([track, { row, high }]) => {
      const here = seen.includes(track);
      const word = here ? scored(row) : text.live.not_seen_now;
      return h("li", { class: high ? "high" : null }, h("span", {}, fill(text.live.a_face, { track })), h("b", {}, high && here ? `▲ ${word}` : word),
        here && row.surprise !== null && h("span", { class: "fine" }, fill(text.live.surprise_times, { n: row.surprise.toFixed(1) })));
    });
    byId("faces").replaceChildren(...(faces.length ? faces : [h("li", { class: "nothing" }, text.live.none_yet)]));
  }

  #drawMissed(): void {
    const all = this.left;
    byId("missed").replaceChildren(...(all.length ? all.map((words) => h("li", {}, words)) : [h("li", { class: "nothing" }, text.live.nothing_left_out)]));
  }

  #hint(code: string | null): void {
    const words = hint(code);
    byId("hint").hidden = !words;
    byId("hint").textContent = words;
  }
}
