// The right side: an id comes in; its result, how far it is, or why there is none goes out. One thing is shown at a time.

import { Problem, ask } from "../api";
import { byId, chip, h, say } from "../dom";
import { type Panel, decisionPanel } from "../desk/decision";
import { type ShownResult, showResult } from "../result";
import { fill, text } from "../text";
import { problemCard, tell } from "../trouble";
import type { Analysis } from "../wire";
import { Pace, bar, looked, share } from "./progress";

export class Shown {
  id: string | null = null;
  #running: Analysis | null = null;
  #pace = new Pace();
  #result: ShownResult | null = null;
  #desk: Panel | null = null;
  #ticket = 0;
  #view = byId("view");
  #deleted: () => void;

  // `deleted` is told when the one that is shown is gone.
  constructor(deleted: () => void) {
    this.#deleted = deleted;
  }

  // The one that is shown and still runs.
  get running(): string | null {
    return this.#running?.id ?? null;
  }

  async open(id: string | null): Promise<void> {
    const ticket = ++this.#ticket;
    if (id !== this.id) this.#pace = new Pace();
    this.id = id;
    this.#result?.close();
    void this.#desk?.close();
    this.#result = this.#desk = this.#running = null;
    this.#view.parentElement?.classList.toggle("opened", id !== null);
    if (!id) {
      document.title = text.videos.title;
      this.#view.replaceChildren(byId<HTMLTemplateElement>("welcome").content.cloneNode(true));
      return;
    }
    try {
      const analysis = await ask<Analysis>(`/v1/analyses/${id}`);
      if (ticket !== this.#ticket) return;
      document.title = fill(text.videos.title_of, { name: nameOf(analysis) });
      if (analysis.status === "succeeded") {
        const result: ShownResult = await showResult(analysis, { onDelete: () => void this.#remove(analysis) });
        if (ticket !== this.#ticket) return result.close();
        this.#result = result;
        this.#view.replaceChildren(result.element);
        this.#seatReviewer(analysis, result.element, ticket).catch((problem: unknown) => tell(problem, { about: nameOf(analysis) }));
      } else if (analysis.status === "queued" || analysis.status === "running") this.#showRunning(analysis);
      else this.#showEnded(analysis);
    } catch (problem) {
      if (ticket === this.#ticket) this.#view.replaceChildren(problemCard(problem, { again: isGone(problem) ? undefined : () => void this.open(id) }));
    }
  }

  update(id: string, changes: Partial<Analysis>): void {
    if (this.#running?.id !== id) return;
    this.#showRunning(Object.assign(this.#running, changes));
  }

  // Nothing is heard of it now; the next word of it takes this back.
  lost(id: string): void {
    if (this.#running?.id === id) this.#note(text.videos.lost);
  }

  gone(id: string): void {
    if (this.id === id) void this.open(id);
  }

  onKey(event: KeyboardEvent): boolean {
    if (document.querySelector("dialog[open]")) return false;
    return (this.#desk?.onKey(event) || this.#result?.onKey(event)) ?? false;
  }

  // The decision panel comes when it can; the result does not wait for it.
  async #seatReviewer(analysis: Analysis, result: HTMLElement, ticket: number): Promise<void> {
    const desk = await decisionPanel(analysis);
    if (ticket !== this.#ticket) return desk?.close();
    if (!desk) return;
    result.querySelector(".stage")?.after(desk.element);
    this.#desk = desk;
  }

  #showRunning(analysis: Analysis): void {
    if (analysis.status !== "queued" && analysis.status !== "running") return;
    this.#running = analysis;
    if (analysis.progress) this.#pace.saw(analysis.progress.media_s);
    const line = looked(analysis, this.#pace);
    const known = share(analysis.progress);
    const card = this.#view.querySelector<HTMLElement>(".underway");
    if (card?.dataset.id === analysis.id) {
      // Changed in place: a button that is replaced ten times a second cannot be clicked.
      this.#note(null);
      card.querySelector(".line")!.textContent = line;
      card.querySelector("progress")!.replaceWith(bar(known, text.videos.analysis));
      card.querySelector(".chip")!.replaceWith(chip(analysis));
      return;
    }
    const stop = h("button", { type: "button", class: "quiet", onclick: () => void this.#cancel(analysis, stop) }, text.videos.stop);
    this.#view.replaceChildren(h("section", { class: "underway card", "data-id": analysis.id },
      name(analysis), h("h1", {}, text.videos.underway), bar(known, text.videos.analysis),
      h("p", { class: "line" }, line), h("p", { class: "notice lost", hidden: true }), stop));
  }

  #note(words: string | null): void {
    const note = this.#view.querySelector<HTMLElement>(".underway .lost");
    if (!note || note.hidden === !words) return;
    note.textContent = words ?? "";
    note.hidden = !words;
    say(words ?? text.videos.back);
  }

  #showEnded(analysis: Analysis): void {
    const tools = h("p", { class: "actions" }, h("button", { type: "button", class: "quiet danger", onclick: () => void this.#remove(analysis) }, text.videos.delete));
    this.#view.replaceChildren(analysis.problem
      ? h("section", {}, name(analysis), problemCard(new Problem(analysis.problem)), tools)
      : h("section", { class: "card" }, name(analysis), h("h1", {}, text.videos.stopped), h("p", {}, text.videos.stopped_more), tools));
  }

  async #cancel(analysis: Analysis, button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    try {
      await ask(`/v1/analyses/${analysis.id}/cancel`, { method: "POST" });
    } catch (problem) {
      tell(problem, { about: nameOf(analysis) });
    } finally {
      button.disabled = false;
    }
  }

  async #remove(analysis: Analysis): Promise<void> {
    if (!window.confirm(fill(text.videos.ask_delete, { name: nameOf(analysis) }))) return;
    try {
      await this.#desk?.close();
      await ask(analysis.links.self, { method: "DELETE" });
      this.#deleted();
      say(text.videos.deleted);
    } catch (problem) {
      tell(problem, { about: nameOf(analysis), again: () => void this.#remove(analysis) });
    }
  }
}

const isGone = (problem: unknown): boolean => problem instanceof Problem && problem.status === 404;

const nameOf = (analysis: Analysis): string => analysis.filename ?? analysis.external_id ?? text.videos.unnamed;

const name = (analysis: Analysis): HTMLElement =>
  h("p", { class: "file" }, chip(analysis), h("span", { class: "ellipsis" }, h("bdi", {}, nameOf(analysis))));
