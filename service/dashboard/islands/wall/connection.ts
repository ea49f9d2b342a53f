// One connection for all feeds, over as many requests as it takes: events come in once and in order, whatever breaks between; states of the link go out.

import { Problem, isFinal, offline, problemAt, signIn } from "../api";
import { eventsOf } from "./event_stream";
import type { Hello, History, OfFeed } from "./wire";

const PATH = "/v1/feeds/events";
const SILENCE_MS = 15_000; // Something is told every five seconds.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

// `retryAt` by performance.now().
export type Link = { name: "open" } | { name: "connecting" } | { name: "waiting"; retryAt: number; problem: Problem } | { name: "refused"; problem: Problem };

export interface Listener {
  onLink: (link: Link) => void;
  // Whether what was missed follows; else everything is to be asked for anew.
  onHello: (hello: Hello) => void;
  onHistory: (history: History) => void;
  onEvent: (event: OfFeed) => void;
}

export class WallConnection {
  #listener: Listener;
  #last: string | null = null;
  #failures = 0;
  #hurry = (): void => {};

  constructor(listener: Listener) {
    this.#listener = listener;
    window.addEventListener("online", () => this.#hurry());
    void this.#run();
  }

  // Until the service says no for good.
  async #run(): Promise<void> {
    for (;;) {
      this.#listener.onLink({ name: "connecting" });
      const problem = await this.#followed();
      if (problem.status === 401) return signIn();
      if (isFinal(problem)) return this.#listener.onLink({ name: "refused", problem });
      const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#failures, LONGEST_WAIT_MS);
      this.#failures += 1;
      const ms = Math.max(1000 * (problem.retry_after_s ?? 0), longest * (0.3 + 0.7 * Math.random())); // Many do not come back at once.
      this.#listener.onLink({ name: "waiting", retryAt: performance.now() + ms, problem });
      await new Promise<void>((resolve) => {
        this.#hurry = resolve;
        setTimeout(resolve, ms);
      });
    }
  }

  // One request from its beginning to its end, and why it ended.
  async #followed(): Promise<Problem> {
    const quiet = new AbortController();
    const listen = (): number => setTimeout(() => quiet.abort(), SILENCE_MS);
    let silence = listen();
    try {
      const response = await fetch(PATH, { headers: this.#last === null ? {} : { "Last-Event-ID": this.#last }, cache: "no-store", signal: quiet.signal });
      if (!response.ok) return await problemAt(response);
      if (!response.body) return offline();
      for await (const { kind, data, id } of eventsOf(response.body)) {
        clearTimeout(silence);
        silence = listen();
        if (id !== null) this.#last = id;
        if (kind === "error") return new Problem(JSON.parse(data));
        this.#take(kind, data);
      }
      return offline();
    } catch (error) {
      // What `fetch` and its body raise when nobody is there any more; all else is a fault of ours.
      if (error instanceof TypeError || error instanceof DOMException) return offline();
      throw error;
    } finally {
      clearTimeout(silence);
    }
  }

  #take(kind: string, data: string): void {
    if (kind === "hello") {
      this.#failures = 0;
      this.#listener.onLink({ name: "open" });
      this.#listener.onHello(JSON.parse(data) as Hello);
    } else if (kind === "history") this.#listener.onHistory(JSON.parse(data) as History);
    else if (kind !== "tick") this.#listener.onEvent(JSON.parse(data) as OfFeed);
  }
}
