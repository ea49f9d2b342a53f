// Bars: names and two values each come in, a chart and the same as a table go out. Shape tells the two apart as well as colour.

import { h, s } from "../dom";
import { Table } from "../settings/table";
import { text } from "../text";

export interface Bar {
  name: string;
  first: number;
  second: number;
  // In the table, where it is not the value itself.
  says?: [string, string];
}

const HEIGHT = 120;
const SLOT = 10;

// `heads`: of the names, of the first and of the second values.
export function bars(title: string, heads: [string, string, string], all: Bar[]): HTMLElement {
  const top = Math.max(...all.map(({ first, second }) => Math.max(first, second)), Number.MIN_VALUE);
  const tall = (value: number): number => (value / top) * HEIGHT;
  const chart = s("svg", { class: "bars", viewBox: `0 0 ${all.length * SLOT} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    all.map(({ first, second }, n) => [
      s("rect", { class: "first", x: n * SLOT + 1, width: 5, y: HEIGHT - tall(first), height: tall(first) }),
      s("rect", { class: "second", x: n * SLOT + 6.5, width: 2.5, y: HEIGHT - tall(second), height: tall(second) }),
    ]));
  const table = new Table<Bar & { id: string }>(title, [
    { head: heads[0], cell: ({ name }) => name },
    { head: heads[1], cell: ({ first, says }) => says?.[0] ?? String(first) },
    { head: heads[2], cell: ({ second, says }) => says?.[1] ?? String(second) },
  ]);
  table.show(all.map((bar) => ({ ...bar, id: bar.name })));
  return h("div", { class: "charted" },
    h("p", { class: "legend" }, h("span", {}, h("i", { class: "swatch wide" }), heads[1]), h("span", {}, h("i", { class: "swatch slim" }), heads[2])),
    chart,
    h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, all[0]?.name), h("span", {}, all.length > 1 && all.at(-1)?.name)),
    h("details", {}, h("summary", {}, text.quality.as_table), table.element));
}
