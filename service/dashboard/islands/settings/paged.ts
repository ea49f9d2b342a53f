// A list that comes page by page: an address comes in, its rows go into a table, and a button asks for older ones until there are none.

import { ask } from "../api";
import { h, say } from "../dom";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import type { Table } from "./table";
import type { Page } from "./wire";

export class Paged<T extends { id: string }> {
  readonly element: HTMLElement;
  #table: Table<T>;
  #address: () => string;
  #nothing: string;
  #next: string | null = null;
  #asked = 0;
  #place = h("div", { class: "paged-state" });

  constructor(table: Table<T>, address: () => string, nothing: string) {
    [this.#table, this.#address, this.#nothing] = [table, address, nothing];
    this.element = h("div", { class: "paged" }, table.element, this.#place);
  }

  // From the newest on.
  async load(): Promise<void> {
    await this.#page(null);
  }

  async #page(cursor: string | null): Promise<void> {
    const asked = (this.#asked += 1);
    this.#place.replaceChildren(h("p", { class: "fine", role: "status" }, text.settings.loading));
    try {
      const address = new URL(this.#address(), location.origin);
      if (cursor) address.searchParams.set("cursor", cursor);
      const page = await ask<Page<T>>(`${address.pathname}${address.search}`);
      // The reader has asked for something else meanwhile.
      if (asked !== this.#asked) return;
      this.#next = page.next;
      if (cursor) this.#table.add(page.items);
      else this.#table.show(page.items);
      if (cursor) say(fill(text.settings.more_shown, { n: page.items.length }));
      this.#table.element.hidden = this.#table.count === 0;
      this.settle();
    } catch (problem) {
      if (asked === this.#asked) this.#place.replaceChildren(problemCard(problem, { again: () => void this.#page(cursor) }));
    }
  }

  // After something was put into the table, or all was read.
  settle(): void {
    this.#table.element.hidden = this.#table.count === 0;
    const older = this.#next && h("button", { type: "button", class: "quiet", onclick: () => void this.#page(this.#next) }, text.settings.older);
    this.#place.replaceChildren(...(this.#table.count ? [] : [h("p", { class: "nothing" }, this.#nothing)]), ...(older ? [older] : []));
  }
}
