// The list: what is searched for comes in, analyses newest first go out, each a link; those that run show how far they are.

import { ask } from "../api";
import { ago, byId, chip, h, probability } from "../dom";
import { fill, text } from "../text";
import { hush, tell } from "../trouble";
import type { Analysis, AnalysisPage } from "../wire";
import { bar, share } from "./progress";

const PAGE = 25;
const MOST = 100;
const TYPING_MS = 250;
const AGE_MS = 60_000;

export class VideoList {
  items: Analysis[] = [];
  #next: string | null = null;
  #open: string | null = null;
  #ticket = 0;
  #typing: ReturnType<typeof setTimeout> | undefined;
  #list = byId<HTMLOListElement>("list");
  #search = byId<HTMLInputElement>("search");
  #verdict = byId<HTMLSelectElement>("filter");
  #status = byId<HTMLSelectElement>("status");
  #more = byId<HTMLButtonElement>("more");
  #drawn: () => void;

  constructor(drawn: () => void) {
    this.#drawn = drawn;
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => void this.load(), TYPING_MS);
    });
    // Enter does not wait, and sends no form.
    this.#search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") void this.load();
      if (event.key === "ArrowDown") this.#move(event, 0);
    });
    for (const choice of [this.#verdict, this.#status]) choice.addEventListener("change", () => void this.load());
    this.#more.addEventListener("click", () => void this.#older());
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("visibilitychange", () => void (document.hidden || this.refresh()));
    window.addEventListener("online", () => void this.refresh());
    setInterval(() => this.#age(), AGE_MS);
  }

  // From the top.
  async load(limit = PAGE): Promise<void> {
    const ticket = ++this.#ticket;
    try {
      const page = await ask<AnalysisPage>(`/v1/analyses?${this.#query(limit)}`);
      if (ticket !== this.#ticket) return;
      hush("list");
      [this.items, this.#next] = [page.items, page.next];
      this.#draw();
    } catch (problem) {
      if (ticket === this.#ticket) tell(problem, { kind: "list", again: () => void this.load(limit) });
    }
  }

  // As much as is shown.
  refresh(): Promise<void> {
    return this.load(Math.min(Math.max(this.items.length, PAGE), MOST));
  }

  async #older(): Promise<void> {
    const ticket = ++this.#ticket;
    const query = this.#query(PAGE);
    if (this.#next) query.set("cursor", this.#next);
    try {
      const page = await ask<AnalysisPage>(`/v1/analyses?${query}`);
      if (ticket !== this.#ticket) return;
      hush("list");
      const first = page.items[0];
      [this.items, this.#next] = [[...this.items, ...page.items], page.next];
      this.#draw();
      // The button may be gone, and whoever pressed it goes on where the new ones begin.
      if (first) this.#link(first.id)?.focus();
    } catch (problem) {
      if (ticket === this.#ticket) tell(problem, { kind: "list", again: () => void this.#older() });
    }
  }

  // Mark the one that is open.
  show(id: string | null): void {
    this.#open = id;
    for (const link of this.#links) {
      if (link.dataset.id === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  get(id: string): Analysis | undefined {
    return this.items.find((one) => one.id === id);
  }

  update(id: string, changes: Partial<Analysis>): void {
    const found = this.get(id);
    if (!found) return;
    const same = found.status === (changes.status ?? found.status);
    Object.assign(found, changes);
    const link = this.#link(id);
    const shown = link?.querySelector("progress");
    // In place while only the progress changes: a link that is replaced ten times a second cannot be clicked.
    if (shown && same) shown.replaceWith(bar(share(found.progress), text.videos.analysis));
    else if (link) {
      const focused = link === document.activeElement;
      link.parentElement?.replaceWith(this.#item(found));
      if (focused) this.#link(id)?.focus();
    }
  }

  focusSearch(): void {
    this.#search.focus();
    this.#search.select();
  }

  #query(limit: number): URLSearchParams {
    const query = new URLSearchParams({ limit: String(limit) });
    const given = { q: this.#search.value.trim(), verdict: this.#verdict.value, status: this.#status.value };
    for (const [name, value] of Object.entries(given)) if (value) query.set(name, value);
    return query;
  }

  get #links(): HTMLAnchorElement[] {
    return [...this.#list.querySelectorAll<HTMLAnchorElement>("a[data-id]")];
  }

  #link(id: string): HTMLAnchorElement | undefined {
    return this.#links.find((link) => link.dataset.id === id);
  }

  #draw(): void {
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.id : undefined;
    this.#list.replaceChildren(...this.items.map((one) => this.#item(one)));
    if (!this.items.length) {
      const filtered = this.#search.value.trim() || this.#verdict.value || this.#status.value;
      this.#list.append(h("li", { class: "nothing" }, filtered ? text.videos.no_match : text.videos.nothing));
    }
    this.#more.hidden = !this.#next;
    if (focused) this.#link(focused)?.focus();
    this.#drawn();
  }

  #item(analysis: Analysis): HTMLLIElement {
    const { id, filename, external_id, source_url, status, p, created_at, progress } = analysis;
    const when = h("time", { datetime: created_at, title: new Date(created_at).toLocaleString() }, ago(created_at));
    const link = h("a", { href: `/analyses/${id}`, "data-route": true, "data-id": id, "aria-current": id === this.#open && "page" },
      h("span", { class: "item-name ellipsis" }, h("bdi", {}, filename ?? external_id ?? source_url ?? text.videos.unnamed)),
      h("span", { class: "item-line" }, chip(analysis),
        h("span", { class: "item-when" }, status === "succeeded" && p !== null ? fill(text.videos.p, { p: probability(p) }) : "", when)),
      status === "running" && bar(share(progress), text.videos.analysis));
    return h("li", {}, link);
  }

  #age(): void {
    for (const time of this.#list.querySelectorAll("time")) time.textContent = ago(time.dateTime);
  }

  #onKey(event: KeyboardEvent): void {
    const at = this.#links.findIndex((link) => link === document.activeElement);
    if (at < 0) return;
    if (event.key === "ArrowDown") this.#move(event, at + 1);
    else if (event.key === "ArrowUp") this.#move(event, at - 1);
    else if (event.key === "Home") this.#move(event, 0);
    else if (event.key === "End") this.#move(event, this.#links.length - 1);
  }

  #move(event: KeyboardEvent, to: number): void {
    const link = this.#links[to];
    if (to < 0) this.focusSearch();
    else if (link) link.focus();
    else if (!this.#more.hidden) this.#more.focus();
    // The player's keys are the same ones.
    event.preventDefault();
    event.stopPropagation();
  }
}
