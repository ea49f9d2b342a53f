// A table: columns and rows come in, one that is read as a table on any screen goes out; on a narrow one each row is a card with its heads.

import { h } from "../dom";

export interface Column<T> {
  head: string;
  // Read aloud and not shown, as of a column of buttons.
  quiet?: boolean;
  cell: (row: T) => Node | string | null;
}

export class Table<T extends { id: string }> {
  readonly element: HTMLElement;
  #columns: Column<T>[];
  #body = h("tbody", { role: "rowgroup" });

  constructor(caption: string, columns: Column<T>[]) {
    this.#columns = columns;
    const heads = columns.map(({ head, quiet }) => h("th", { role: "columnheader", scope: "col" }, quiet ? h("span", { class: "visually-hidden" }, head) : head));
    // The roles are those that the elements have until a narrow screen lays them out as blocks.
    this.element = h("table", { class: "table", role: "table" }, h("caption", { class: "visually-hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), this.#body);
  }

  get count(): number {
    return this.#body.childElementCount;
  }

  show(rows: T[]): void {
    this.#body.replaceChildren(...rows.map((row) => this.#row(row)));
  }

  add(rows: T[]): void {
    this.#body.append(...rows.map((row) => this.#row(row)));
  }

  // In the place of the row that it was; first if there was none. It takes the focus that its predecessor had.
  put(row: T): void {
    const old = [...this.#body.children].find((one) => one instanceof HTMLElement && one.dataset.id === row.id);
    const had = old?.contains(document.activeElement);
    const made = this.#row(row);
    if (old) old.replaceWith(made);
    else this.#body.prepend(made);
    if (had) (made.querySelector<HTMLElement>("button") ?? made).focus();
  }

  #row(row: T): HTMLElement {
    return h("tr", { role: "row", "data-id": row.id, tabindex: -1 },
      this.#columns.map(({ head, quiet, cell }) => h("td", { role: "cell", "data-head": quiet ? null : head }, cell(row))));
  }
}
