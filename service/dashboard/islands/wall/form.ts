// A camera to be watched: what a person writes comes in, a feed goes to the service; what is wrong stands at its field.

import { Problem, ask, slug } from "../api";
import { byId, say } from "../dom";
import { fill, text } from "../text";
import type { Feed } from "./wire";

const FIELDS = ["url", "name", "threshold", "min_s", "cooldown_s"] as const;
type Field = (typeof FIELDS)[number];
const AT_THE_URL = ["url-not-allowed", "unsupported-media", "pull-not-supported", "source-not-found"];

const input = (field: Field): HTMLInputElement => byId<HTMLInputElement>(`feed-${field}`);

export class FeedForm {
  #card = byId("add-card");
  #button = byId<HTMLButtonElement>("add-open");
  #submit = byId<HTMLButtonElement>("add-submit");
  #key = newKey();
  #onAdded: (feed: Feed) => void;

  constructor(onAdded: (feed: Feed) => void) {
    this.#onAdded = onAdded;
    this.#button.addEventListener("click", () => this.show(this.#card.hidden === true));
    byId("add-cancel").addEventListener("click", () => this.show(false));
    byId("add").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#card.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.show(false);
    });
    for (const field of FIELDS) input(field).addEventListener("input", () => (this.#key = newKey()));
  }

  show(open: boolean): void {
    this.#card.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    (open ? input("url") : this.#button).focus();
  }

  async #send(): Promise<void> {
    if (this.#submit.getAttribute("aria-disabled") === "true") return;
    for (const field of FIELDS) blame(field, "");
    byId("add-trouble").textContent = "";
    if (!input("url").value.trim()) return this.#point([["url", text.wall.needs_url]]);
    this.#submit.setAttribute("aria-disabled", "true");
    try {
      // With one key for what is written: an answer that got lost, or a second click, adds no second camera.
      const headers = { "Content-Type": "application/json", "Idempotency-Key": this.#key };
      const feed = await ask<Feed>("/v1/feeds", { method: "POST", headers, body: JSON.stringify(written()) });
      byId<HTMLFormElement>("add").reset();
      this.#key = newKey();
      this.show(false);
      say(fill(text.wall.added, { name: feed.name ?? feed.url }));
      this.#onAdded(feed);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#explain(error);
    } finally {
      this.#submit.removeAttribute("aria-disabled");
    }
  }

  #explain(problem: Problem): void {
    const sentence = problem.expected ? `${problem.detail} ${text.wall.expected} ${problem.expected}.` : problem.detail;
    if (AT_THE_URL.includes(slug(problem))) return this.#point([["url", sentence]]);
    const faults = (problem.errors ?? []).flatMap(({ pointer, detail }): [Field, string][] => {
      const field = FIELDS.find((one) => pointer.split("/").at(-1) === one);
      return field ? [[field, detail]] : [];
    });
    if (faults.length) return this.#point(faults);
    byId("add-trouble").textContent = `${problem.title}. ${sentence}`;
  }

  #point(faults: [Field, string][]): void {
    for (const [field, words] of faults) blame(field, words);
    const first = FIELDS.find((field) => faults.some(([one]) => one === field));
    if (first) input(first).focus();
  }
}

function blame(field: Field, words: string): void {
  byId(`feed-${field}-error`).textContent = words;
  if (words) input(field).setAttribute("aria-invalid", "true");
  else input(field).removeAttribute("aria-invalid");
}

// What is left empty is left to the service.
function written(): object {
  const rule = Object.fromEntries(
    (["threshold", "min_s", "cooldown_s"] as const).flatMap((field) => (input(field).value.trim() ? [[field, Number(input(field).value)]] : [])),
  );
  const name = input("name").value.trim();
  return { url: input("url").value.trim(), ...(name ? { name } : {}), rule };
}

// crypto.randomUUID is for https and loopback alone.
const newKey = (): string => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
