// Analyses that run: their ids come in, what happens to each goes out as it happens, through lost connections and a service that restarts.

import { Problem, ask, follow } from "../api";
import type { Analysis } from "../wire";

// A browser opens six connections to one host: two for these, one each for an upload, an import and the player, and one to ask with.
const FOLLOWED = 2;
const SOONEST_MS = 1000;
const LATEST_MS = 15_000;

export interface Told {
  changed: (id: string, changes: Partial<Analysis>) => void;
  ended: (analysis: Analysis) => void;
  lost: (id: string) => void;
  gone: (id: string) => void;
}

export class Following {
  #told: Told;
  #stops = new Map<string, () => void>();

  constructor(told: Told) {
    this.#told = told;
  }

  // Follow the first few of these, and no others.
  want(ids: string[]): void {
    const wanted = [...new Set(ids)].slice(0, FOLLOWED);
    for (const [id, stop] of this.#stops) {
      if (wanted.includes(id)) continue;
      stop();
      this.#stops.delete(id);
    }
    for (const id of wanted) if (!this.#stops.has(id)) this.#follow(id, SOONEST_MS);
  }

  #follow(id: string, wait_ms: number): void {
    let waits = wait_ms;
    const changed = (changes: Partial<Analysis>): void => {
      waits = SOONEST_MS;
      this.#told.changed(id, changes);
    };
    this.#stops.set(id, follow(id, {
      onState: changed,
      onProgress: (progress) => changed({ progress, status: "running" }),
      onEnd: (analysis) => {
        this.#stops.delete(id);
        this.#told.ended(analysis);
      },
      onLost: () => this.#told.lost(id),
      // EventSource tries again by itself, with Last-Event-ID, unless it was answered with an error.
      onGone: () => {
        this.#told.lost(id);
        this.#later(id, waits);
      },
    }));
  }

  #later(id: string, wait_ms: number): void {
    const timer = setTimeout(() => void this.#look(id, wait_ms), wait_ms);
    this.#stops.set(id, () => clearTimeout(timer));
  }

  async #look(id: string, waited_ms: number): Promise<void> {
    const mine = this.#stops.get(id);
    try {
      const analysis = await ask<Analysis>(`/v1/analyses/${id}`);
      if (this.#stops.get(id) !== mine) return;
      this.#stops.delete(id);
      if (analysis.status === "queued" || analysis.status === "running") this.#follow(id, Math.min(2 * waited_ms, LATEST_MS));
      else this.#told.ended(analysis);
    } catch (problem) {
      if (this.#stops.get(id) !== mine) return;
      if (problem instanceof Problem && problem.status === 404) {
        this.#stops.delete(id);
        this.#told.gone(id);
      } else this.#later(id, Math.min(2 * waited_ms, LATEST_MS));
    }
  }
}
