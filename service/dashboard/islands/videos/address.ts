// Addresses of videos: what a person types or pastes comes in, one Transfer goes out; what is wrong with it is said at the field.

import { Problem, ask } from "../api";
import { byId, say } from "../dom";
import { fill, text } from "../text";
import { sentence } from "../trouble";
import type { Analysis } from "../wire";
import { type Transfers, once } from "./transfers";

const EDITED = "input, textarea, select, [contenteditable]";

export class AddressField {
  #transfers: Transfers;
  #field = byId<HTMLInputElement>("url");
  #problem = byId("url-problem");
  #key: { address: string; key: string } | null = null;

  constructor(transfers: Transfers) {
    this.#transfers = transfers;
    byId<HTMLFormElement>("drop").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#field.addEventListener("input", () => this.#say(null));
    document.addEventListener("paste", (event) => this.#pasted(event));
  }

  // Put an address into the field for whoever sees it to press Enter; false if it is none.
  offer(given: string): boolean {
    const address = read(given);
    if (!address) return false;
    this.#field.value = address;
    this.#say(null);
    this.#field.focus();
    say(fill(text.videos.offered, { address }));
    return true;
  }

  #pasted(event: ClipboardEvent): void {
    if (event.target instanceof Element && event.target.closest(EDITED)) return;
    if (this.offer(event.clipboardData?.getData("text/plain") ?? "")) event.preventDefault();
  }

  #send(): void {
    const given = this.#field.value.trim();
    const address = read(given);
    if (!address) return this.#say(given ? text.videos.no_address : text.videos.empty_address);
    if (this.#key?.address !== address) this.#key = { address, key: once() };
    const { key } = this.#key;
    this.#field.value = "";
    this.#say(null);
    this.#transfers.add([{
      name: shown(address),
      lane: "address",
      begin: (line) => {
        line(text.videos.fetching, null);
        const stopping = new AbortController();
        const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
        const done = ask<Analysis>("/v1/analyses", { method: "POST", headers, body: JSON.stringify({ url: address }), signal: stopping.signal });
        return { done, stop: () => stopping.abort() };
      },
      failed: (problem) => {
        // Unless the next one is being typed.
        if (!this.#field.value) this.#field.value = address;
        this.#say(problem instanceof Problem && problem.status === 401 ? null : sentence(problem));
        if (document.activeElement === document.body) this.#field.focus();
      },
    }]);
  }

  #say(words: string | null): void {
    this.#problem.textContent = words ?? "";
    this.#problem.hidden = !words;
    if (words) this.#field.setAttribute("aria-invalid", "true");
    else this.#field.removeAttribute("aria-invalid");
    if (words) say(words);
  }
}

// One whole http(s) address, and nothing beside it.
function read(given: string): string | null {
  const word = given.trim();
  if (/\s/.test(word) || !/^https?:\/\//i.test(word) || !URL.canParse(word)) return null;
  return word;
}

// Without a password or a query, which may be one.
function shown(address: string): string {
  const { host, pathname } = new URL(address);
  return host + pathname;
}
