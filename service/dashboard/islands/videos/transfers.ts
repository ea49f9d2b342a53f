// Videos on their way in: files and addresses come in, a line for each shows how far it is, finished ones go out as analyses.
// One of each lane is under way at a time; the others wait in the order in which they came.

import { Problem, slug } from "../api";
import { byId, h, say } from "../dom";
import { fill, text } from "../text";
import type { Analysis } from "../wire";
import { bar } from "./progress";

export interface Transfer {
  name: string;
  lane: "file" | "address";
  // Begins it; `tell` takes its state in words, and its share where that is known.
  begin: (tell: (line: string, share: number | null) => void) => { done: Promise<Analysis>; stop: () => void };
  failed: (problem: unknown) => void;
}

interface Row {
  transfer: Transfer;
  alone: boolean;
  under: boolean;
  element: HTMLLIElement;
  line: HTMLElement;
  stop: () => void;
}

export class Transfers {
  #rows: Row[] = [];
  #list = byId<HTMLOListElement>("queue");
  #came: (analysis: Analysis, alone: boolean) => void;

  // `came` is told of each analysis, and whether nothing else was sent with it.
  constructor(came: (analysis: Analysis, alone: boolean) => void) {
    this.#came = came;
    // Leaving the page would end them. Going to sign in does too, but then they have failed already.
    window.addEventListener("beforeunload", (event) => {
      if (this.#rows.length) event.preventDefault();
    });
  }

  add(transfers: Transfer[]): void {
    const alone = transfers.length === 1 && !this.#rows.length;
    for (const transfer of transfers) this.#rows.push(this.#row(transfer, alone));
    if (transfers.length > 1) say(fill(text.videos.queued, { n: transfers.length }));
    this.#next();
  }

  #row(transfer: Transfer, alone: boolean): Row {
    const line = h("span", { class: "transfer-line" }, text.videos.in_line);
    const stop = h("button", { type: "button", class: "quiet", "aria-label": fill(text.videos.stop_upload, { name: transfer.name }) }, text.videos.stop);
    const element = h("li", {},
      h("span", { class: "transfer-name ellipsis" }, h("bdi", {}, transfer.name)), line, bar(0, transfer.name), stop);
    const row: Row = { transfer, alone, under: false, element, line, stop: () => this.#end(row) };
    stop.addEventListener("click", () => row.stop());
    this.#list.append(element);
    this.#list.hidden = false;
    return row;
  }

  #next(): void {
    for (const lane of ["file", "address"]) {
      const waiting = this.#rows.filter((row) => row.transfer.lane === lane);
      if (waiting[0] && !waiting.some((row) => row.under)) void this.#run(waiting[0]);
    }
  }

  async #run(row: Row): Promise<void> {
    row.under = true;
    const { done, stop } = row.transfer.begin((words, share) => {
      row.line.textContent = words;
      const shown = row.element.querySelector("progress");
      if (shown && share !== null) shown.value = share;
      else shown?.removeAttribute("value");
    });
    row.stop = stop;
    try {
      const analysis = await done;
      this.#end(row);
      say(fill(text.videos.came, { name: row.transfer.name }));
      this.#came(analysis, row.alone);
    } catch (problem) {
      this.#end(row);
      // Null, and an abort, are what a stopped one ends with.
      if (problem && !(problem instanceof DOMException)) row.transfer.failed(problem);
    }
  }

  #end(row: Row): void {
    this.#rows = this.#rows.filter((one) => one !== row);
    row.element.remove();
    this.#list.hidden = !this.#rows.length;
    this.#next();
  }
}

// Names one attempt and its repetitions, so that an answer that was lost on its way makes no second analysis.
export const once = (): string => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const isLost = (problem: unknown): boolean => problem instanceof Problem && slug(problem) === "no-connection";
