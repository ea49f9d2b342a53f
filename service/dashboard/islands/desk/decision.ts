// The decision panel beside a result: an analysis comes in, an element goes out in which a reviewer opens it, decides or skips it, and sees
// what others said. Embedded by the result page; it takes the lock while it is shown. What happened is read aloud.

import { Problem, ask, slug } from "../api";
import { h, say } from "../dom";
import { may, me } from "../me";
import { fill, text } from "../text";
import { problemCard, sentence } from "../trouble";
import type { Analysis } from "../wire";
import { DecisionForm, type Said } from "./form";
import { decisionWord, history, when } from "./history";
import { Lease, type Told } from "./lease";
import { policy } from "./policy";
import { welfareControls } from "./welfare";
import type { Lock, Review, ReviewItem, Reviews } from "./wire";
import { nextQuery } from "./wishes";

const WATCH_MS = 15_000;

export interface Panel {
  element: HTMLElement;
  onKey(event: KeyboardEvent): boolean;
  close(): Promise<void>; // Wait for it before the analysis is deleted: a lock of nothing cannot be given back.
}

// Null for whoever is no reviewer, and for an analysis without a result to decide about.
export async function decisionPanel(analysis: Analysis): Promise<Panel | null> {
  if (analysis.status !== "succeeded") return null;
  const person = await me();
  if (!person || !may(person, "reviews")) return null;
  const desk = new DecisionDesk(analysis, may(person, "reviews:lead"), `${person.tenant}/${person.name}`);
  await desk.look();
  return desk;
}

class DecisionDesk implements Panel {
  readonly element: HTMLElement;
  readonly #path: string;
  readonly #status = h("p", { class: "desk-status" });
  readonly #trouble = h("div", { class: "desk-trouble" });
  readonly #place = h("div", { class: "desk-place" });
  readonly #past = h("div");
  readonly #lease: Lease;
  readonly #form: DecisionForm;
  #seen: Reviews | null = null;
  #deciding = false;
  #closed = false; // What was asked for before is answered later, to nobody.
  #timer = 0;

  constructor(
    analysis: Analysis,
    private readonly lead: boolean,
    who: string,
  ) {
    this.#path = `/v1/analyses/${analysis.id}`;
    this.#lease = new Lease(`${this.#path}/review-lock`, (news) => this.#onLease(news));
    this.#form = new DecisionForm(`draft/${who}/${analysis.id}`, (said) => this.#say(said), () => this.#giveBack());
    this.element = h("section", { class: "card desk", "aria-labelledby": "desk-title", tabindex: "-1" },
      h("h2", { id: "desk-title" }, text.desk.title), this.#status, this.#trouble, this.#place, policy(), this.#past, welfareControls());
  }

  onKey(event: KeyboardEvent): boolean {
    return this.#deciding && this.#form.onKey(event);
  }

  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    return this.#lease.close();
  }

  // Where it stands; what waits for this reviewer is opened at once.
  async look(): Promise<void> {
    try {
      const seen = await this.#read();
      const { lock } = seen.item;
      if (lock && !lock.mine) this.#showOther(lock);
      else if (lock?.mine || (this.#waitsForMe(seen) && !skippedByMe(seen))) await this.#lease.take();
      else this.#showClosed(seen);
    } catch (problem) {
      this.#fail(problem, () => this.look());
    }
  }

  async #read(): Promise<Reviews> {
    this.#seen = await ask<Reviews>(`${this.#path}/reviews`);
    this.#past.replaceChildren(history(this.#seen));
    this.#trouble.replaceChildren();
    return this.#seen;
  }

  #waitsForMe({ item, sealed }: Reviews): boolean {
    if (item.waits_for === "first") return true;
    return item.waits_for === "second" ? sealed > 0 : item.waits_for === "ruling" && this.lead;
  }

  // Who spoke first may correct that until somebody else has decided, and a lead may rule at any time.
  #again({ reviews }: Reviews): string | null {
    const last = reviews.findLast((one) => one.decision !== null);
    if (!last) return null;
    return last.mine && last.role === "first" ? text.desk.correct : this.lead ? text.desk.rule : null;
  }

  #onLease(news: Told): void {
    if ("held" in news) {
      clearTimeout(this.#timer);
      this.#trouble.replaceChildren();
      if (this.#deciding) return;
      this.#deciding = true;
      this.#tell(text.desk.yours);
      this.#place.replaceChildren(this.#form.element);
    } else if ("away" in news) {
      this.#fail(news.away, () => this.#lease.take());
    } else {
      const was = this.#deciding;
      this.#deciding = false;
      void this.#refused(news.refused, was);
    }
  }

  // Somebody else has it, or has decided it; what was typed stays in the draft.
  async #refused(problem: Problem, was: boolean): Promise<void> {
    try {
      const seen = await this.#read();
      const { lock } = seen.item;
      if (lock && !lock.mine) this.#showOther(lock);
      else this.#showClosed(seen);
      if (was) this.#tell(fill(text.desk.lost, { why: this.#status.textContent ?? problem.title }));
    } catch (error) {
      this.#fail(error, () => this.look());
    }
  }

  #showOther({ holder, since }: Lock): void {
    this.#tell(fill(text.desk.with, { who: holder }));
    this.#place.replaceChildren(
      h("p", { class: "fine" }, text.desk.since, " ", when(since)),
      h("p", { class: "actions" },
        button(text.desk.look_again, () => this.look()),
        this.lead && button(text.desk.take_over, () => this.#lease.take({ over: true })),
        this.#next()));
    this.#watchLater();
  }

  #watchLater(): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = window.setTimeout(() => this.#watch(), WATCH_MS);
  }

  // Somebody else's lock is watched, and not taken when it falls open: whoever reads on may not want it any more.
  async #watch(): Promise<void> {
    try {
      const seen = document.hidden && this.#seen ? this.#seen : await this.#read();
      if (seen.item.lock && !seen.item.lock.mine) this.#watchLater();
      else this.#showClosed(seen);
    } catch (problem) {
      this.#fail(problem, () => this.look());
    }
  }

  #showClosed(seen: Reviews): void {
    this.#tell(standing(seen));
    const word = this.#waitsForMe(seen) ? text.desk.open : this.#again(seen);
    this.#place.replaceChildren(h("p", { class: "actions" }, this.#next(), word && button(word, () => this.#lease.take()), h("a", { class: "quiet", href: "/queue" }, text.desk.to_queue)));
  }

  async #say({ decision, reason, note }: Said): Promise<void> {
    const body = JSON.stringify(decision ? { decision, reason, note } : { reason, note });
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    try {
      await this.#noted(await ask<Review>(`${this.#path}/reviews${decision ? "" : "/skip"}`, options));
    } catch (problem) {
      if (problem instanceof Problem && slug(problem) === "review-not-held") {
        if (await this.#lease.take()) this.#tell(text.desk.run_out);
      } else {
        // The same words once more are no second decision, so that an answer that was lost does no harm.
        this.#fail(problem);
      }
    }
  }

  async #noted(review: Review): Promise<void> {
    const noted = fill(text.desk.said, { what: decisionWord(review) });
    this.#lease.spent();
    this.#form.forget();
    this.#deciding = false;
    this.#tell(noted);
    this.#place.replaceChildren();
    try {
      this.#showClosed(await this.#read());
      this.#tell(`${noted} ${this.#status.textContent}`);
      this.#place.querySelector<HTMLElement>("button")?.focus();
    } catch (problem) {
      this.#fail(problem, () => this.look());
    }
  }

  #giveBack(): void {
    void this.#lease.giveBack();
    this.#deciding = false;
    if (this.#seen) this.#showClosed(this.#seen);
    this.#tell(text.desk.given_back);
    this.#place.querySelector<HTMLElement>("button")?.focus();
  }

  #next(): HTMLElement {
    return button(text.desk.next, async () => {
      try {
        const item = await ask<ReviewItem | undefined>(`/v1/reviews/next?${nextQuery()}`, { method: "POST" });
        if (!item) return this.#tell(text.desk.none_left);
        // A link, so that a page that moves without loading takes it over, and any other just follows it.
        const link = h("a", { href: `/analyses/${item.analysis.id}`, "data-route": true, hidden: true });
        this.element.append(link);
        link.click();
      } catch (problem) {
        this.#fail(problem);
      }
    }, "button");
  }

  #tell(sentence: string): void {
    if (this.#closed) return;
    this.#status.textContent = sentence;
    say(sentence);
  }

  #fail(problem: unknown, again?: () => unknown): void {
    if (this.#closed) return;
    const note = this.#deciding ? text.desk.kept : undefined;
    this.#trouble.replaceChildren(problemCard(problem, { note, again }));
    say([sentence(problem), note].filter(Boolean).join(" "));
  }
}

const button = (word: string, onclick: () => unknown, kind = "quiet"): HTMLButtonElement => h("button", { type: "button", class: kind, onclick: () => void onclick() }, word);

// Opened again by a button alone.
const skippedByMe = ({ reviews }: Pick<Reviews, "reviews">): boolean => reviews.some((one) => one.role === "skip" && one.mine);

// Where an analysis stands that is not open for this reviewer, in a sentence.
function standing({ item: { waits_for, outcome }, ...seen }: Reviews): string {
  if (outcome) return fill(text.desk.decided, { what: decisionWord({ decision: outcome }) });
  if (waits_for === "second") return text.desk.waits_second;
  if (waits_for === "ruling") return text.desk.waits_ruling;
  return skippedByMe(seen) ? text.desk.you_skipped : text.desk.nobody;
}
