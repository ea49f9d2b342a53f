// The timeline in words, for whoever reads rather than looks: rows come in, a table of the stretch around the playhead goes out when it is opened.

import { clock, h, probability, reason } from "../dom";
import { fill, text } from "../text";
import type { Analysis } from "../wire";
import type { Source } from "./source";

const ROWS = 200;

export function scoreTable(analysis: Analysis, source: Source, at: () => number): HTMLElement {
  const place = h("div", { class: "table-place" });
  const details = h("details", { class: "card" }, h("summary", {}, text.result.table), place);
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    const rows = source.stretch(at(), at()).all;
    const first = Math.max(rows.findIndex((row) => row.t >= at() - 1e-3), 0);
    const shown = rows.slice(first, first + ROWS);
    if (!rows.length) {
      place.replaceChildren(h("p", { class: "fine" }, source.whole.rows.size ? text.result.nobody_here : text.result.nobody));
      return;
    }
    const heads = [text.result.time, text.result.face_head, text.result.p_head, text.result.surprise, text.result.why];
    place.replaceChildren(
      h("p", { class: "fine" }, fill(text.result.table_shows, { n: shown.length, t: clock(shown[0]?.t ?? 0) }), " ",
        h("a", { href: `${analysis.links.timeline}?format=csv`, download: `${analysis.id}.csv` }, text.result.table_all)),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": text.result.table },
        h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
          h("tbody", {}, shown.map((row) => h("tr", {},
            h("th", { scope: "row" }, clock(row.t)), h("td", {}, row.track), h("td", {}, row.p === null ? "" : probability(row.p)),
            h("td", {}, row.surprise === null ? "" : `×${row.surprise.toFixed(2)}`), h("td", {}, row.reason ? reason(row.reason) : "")))))));
  });
  return details;
}
