// What is told in numbers and words beside the picture: events come in, the page's readings change, and what matters is said aloud, politely.

import { clock, h, probability, reason, say, seconds } from "../dom.js";
import { HINTS, STATES, gap, missed } from "./words.js";

const NOTES = 6;
const RECENT_MS = 3000; // Over which looks a second are counted.
const MEDIAN_OF = 15;
const $ = (id) => document.getElementById(id);

export class Readings {
  #threshold = 1;
  #faces = new Map(); // Track -> {row, high}
  #missed = new Map(); // Cause -> how many.
  #arrivals = [];
  #latencies = [];
  #looks = 0;
  #countdown = 0;

  begin(threshold) {
    this.#threshold = threshold;
    [this.#arrivals, this.#latencies, this.#looks] = [[], [], 0];
    this.#faces.clear();
    this.#missed.clear();
    this.#drawFaces();
    this.#drawMissed();
    this.#hint(null);
    for (const id of ["latency", "rate", "time"]) $(id).textContent = "–";
    $("looks").textContent = "0";
    $("line-words").textContent = "";
  }

  // One of STATES; `retryAt` by performance.now(), counted down.
  state(name, { why = "", retryAt = null } = {}) {
    const [word, glyph, kind] = STATES[name];
    const chip = $("state");
    if (chip.dataset.name !== name) {
      Object.assign(chip, { className: `chip ${kind}` });
      chip.dataset.name = name;
      chip.replaceChildren(h("span", { "aria-hidden": "true" }, glyph), ` ${word}`);
      say(`${word}. ${why}`);
    }
    clearInterval(this.#countdown);
    const tell = () => {
      const left = retryAt === null ? "" : ` Trying again in ${Math.max(Math.ceil((retryAt - performance.now()) / 1000), 0)} s.`;
      $("why").textContent = `${why}${left}`;
    };
    tell();
    if (retryAt !== null) this.#countdown = setInterval(tell, 250);
  }

  look(event, age_s) {
    this.#looks += event.stands_for;
    this.#arrivals.push(performance.now());
    this.#arrivals = this.#arrivals.filter((at) => performance.now() - at < RECENT_MS);
    this.#latencies = [...this.#latencies, age_s].slice(-MEDIAN_OF);
    const median = this.#latencies.toSorted((a, b) => a - b)[this.#latencies.length >> 1];
    $("latency").textContent = median < 1 ? `${Math.round(median * 1000)} ms` : seconds(median);
    $("rate").textContent = (this.#arrivals.length / (RECENT_MS / 1000)).toFixed(1);
    $("looks").textContent = this.#looks;
    $("time").textContent = clock(event.at.t);
    const highest = event.p === null ? "nobody judged just now" : `highest now ${probability(event.p)}`;
    $("line-words").textContent = `${highest}, counts as manipulated from ${probability(this.#threshold)}`;
    for (const row of event.faces) {
      const before = this.#faces.get(row.track)?.high ?? false;
      const high = row.p === null ? before : row.p >= this.#threshold;
      this.#faces.set(row.track, { row, high });
      if (high && !before) this.note(row.t, `face ${row.track}: ${probability(row.p)}, above the threshold`, "high");
      else if (!high && before) this.note(row.t, `face ${row.track} is below the threshold again`);
    }
    this.#drawFaces(event.faces.map((row) => row.track));
    this.#hint(event.p !== null ? null : event.faces.length ? event.faces[0].reason : "no_face");
  }

  face({ track, state, at }) {
    if (state === "left") this.#faces.delete(track);
    this.note(at.t, `face ${track} ${state === "left" ? "left" : "appeared"}`);
    this.#drawFaces();
  }

  gap(event) {
    if (event.seconds >= 0.5 || event.cause !== "missing") this.note(event.end.t, `gap of ${seconds(event.seconds)}: ${gap(event)}`, "warn");
  }

  missed(cause, n) {
    this.#missed.set(cause, (this.#missed.get(cause) ?? 0) + n);
    this.#drawMissed();
  }

  // What was left out, in words.
  get left() {
    return [...this.#missed].map(([cause, n]) => missed(cause, n));
  }

  note(t, words, kind = null) {
    const list = $("notes");
    list.querySelector(".nothing")?.remove();
    list.prepend(h("li", { class: kind }, h("time", {}, t === null ? "" : clock(t)), ` ${words}`));
    while (list.children.length > NOTES) list.lastChild.remove();
    if (kind) say(words);
  }

  #drawFaces(seen = []) {
    const faces = [...this.#faces].map(([track, { row, high }]) => {
      const here = seen.includes(track);
      const word = !here ? "not seen just now" : row.p === null ? (row.reason ? `not judged: ${reason(row.reason)}` : "warming up") : probability(row.p);
      return h("li", { class: high ? "high" : null }, h("span", {}, `Face ${track}`), h("b", {}, high && here ? `▲ ${word}` : word),
        here && row.surprise !== null && h("span", { class: "fine" }, `surprise ×${row.surprise.toFixed(1)}`));
    });
    $("faces").replaceChildren(...(faces.length ? faces : [h("li", { class: "nothing" }, "None yet.")]));
  }

  #drawMissed() {
    const all = this.left;
    $("missed").replaceChildren(...(all.length ? all.map((words) => h("li", {}, words)) : [h("li", { class: "nothing" }, "Nothing was left out.")]));
  }

  #hint(code) {
    const words = HINTS[code] ?? "";
    $("hint").hidden = !words;
    $("hint").textContent = words;
  }
}
