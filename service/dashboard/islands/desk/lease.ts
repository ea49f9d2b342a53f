// A lock on one analysis: taken, renewed while the page can be seen, and given back when it is left. What becomes of it goes to `told`.

import { Problem, ask } from "../api";
import type { Lock } from "./wire";

const RENEW_MS = 60_000;
const LEAST_MS = 3_000;
const RETRY_MS = 5_000;

export type Told = { held: Lock } | { refused: Problem } | { away: Problem };

export class Lease {
  #wanted = false;
  #held = false;
  #closed = false;
  #timer = 0;

  constructor(
    private readonly path: string,
    private readonly told: (news: Told) => void,
  ) {
    document.addEventListener("visibilitychange", this.#onVisibility);
    window.addEventListener("pagehide", this.#onHide);
    window.addEventListener("pageshow", this.#onShow);
  }

  // Takes it, or keeps it; a lead may take it from somebody. Whether it is held then.
  async take({ over = false } = {}): Promise<boolean> {
    if (this.#closed) return false;
    this.#wanted = true;
    clearTimeout(this.#timer);
    try {
      const lock = await ask<Lock>(`${this.path}${over ? "?take_over=true" : ""}`, { method: "POST" });
      this.#held = true;
      if (!this.#wanted) {
        void this.#giveBack(); // The page was left meanwhile.
        return false;
      }
      const left = new Date(lock.until).getTime() - Date.now();
      this.#again(Math.min(RENEW_MS, Math.max(LEAST_MS, left / 2)));
      this.told({ held: lock });
      return true;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (!this.#wanted) return false;
      if (problem.status === undefined || problem.status >= 500 || problem.status === 429) {
        this.#again(RETRY_MS);
        this.told({ away: problem });
      } else {
        this.#wanted = this.#held = false;
        this.told({ refused: problem });
      }
      return false;
    }
  }

  // A decision or a skip has taken the lock with it.
  spent(): void {
    this.#wanted = this.#held = false;
    clearTimeout(this.#timer);
  }

  giveBack(): Promise<void> {
    this.#wanted = false;
    clearTimeout(this.#timer);
    return this.#giveBack();
  }

  close(): Promise<void> {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    window.removeEventListener("pagehide", this.#onHide);
    window.removeEventListener("pageshow", this.#onShow);
    return this.giveBack();
  }

  #again(ms: number): void {
    if (!document.hidden) this.#timer = window.setTimeout(() => this.take(), ms);
  }

  // Outlives the page; if it does not arrive, the lease ends by itself.
  async #giveBack(): Promise<void> {
    if (!this.#held) return;
    this.#held = false;
    await fetch(this.path, { method: "DELETE", keepalive: true }).catch(() => undefined);
  }

  readonly #onVisibility = (): void => {
    clearTimeout(this.#timer);
    if (this.#wanted && !document.hidden) void this.take();
  };

  readonly #onHide = (): void => {
    clearTimeout(this.#timer);
    void this.#giveBack();
  };

  // Back from the browser's cache of whole pages.
  readonly #onShow = (event: PageTransitionEvent): void => {
    if (event.persisted && this.#wanted) void this.take();
  };
}
