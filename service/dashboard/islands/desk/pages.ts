// A list of `/v1` that grows page by page and keeps itself fresh: addresses come in, items go out. What has not changed costs a 304.

import { askAgain } from "../api";

interface Kept<T> {
  cursor: string | null;
  etag: string | null;
  items: T[];
  next: string | null;
}

export class Pages<T> {
  #kept: Kept<T>[] = [];
  #turn = 0;

  // `address`: of the page at a cursor, or of the first one.
  constructor(private readonly address: (cursor: string | null) => string) {}

  get items(): T[] {
    return this.#kept.flatMap((page) => page.items);
  }

  get hasMore(): boolean {
    return (this.#kept.at(-1)?.next ?? null) !== null;
  }

  // From the beginning: something else is wanted.
  reset(): void {
    this.#kept = [];
    this.#turn += 1;
  }

  // Everything that is shown, once more; whether anything is different.
  refresh(): Promise<boolean> {
    return this.#read(Math.max(this.#kept.length, 1));
  }

  more(): Promise<boolean> {
    return this.#read(this.#kept.length + 1);
  }

  // A page ends where the next one begins: one after the other, so that nothing is shown twice or left out.
  async #read(count: number): Promise<boolean> {
    const turn = ++this.#turn;
    const read: Kept<T>[] = [];
    let changed = false;
    let cursor: string | null = null;
    do {
      const before: Kept<T> | undefined = this.#kept[read.length];
      const known = before?.cursor === cursor ? before : undefined;
      const news: { body: { items: T[]; next: string | null }; etag: string | null } | null = await askAgain(this.address(cursor), known?.etag ?? null);
      if (turn !== this.#turn) return false; // Asked again meanwhile.
      if (news === null && known) read.push(known);
      else if (news) {
        read.push({ cursor, etag: news.etag, ...news.body });
        changed = true;
      }
      cursor = read.at(-1)?.next ?? null;
    } while (cursor !== null && read.length < count);
    changed ||= read.length !== this.#kept.length;
    this.#kept = read;
    return changed;
  }
}
