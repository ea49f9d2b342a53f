// Settings in force: what `/v1/system` shows comes in, a table for each group goes out, with the variable that each is given by.

import { bytes, h } from "../dom";
import { fill, named, text } from "../text";
import { Table } from "./table";
import { percent, span } from "./words";
import type { Setting } from "./wire";

export function settingsCards(settings: Setting[]): HTMLElement[] {
  const groups = new Map<string, Setting[]>();
  for (const one of settings) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  return [...groups].map(([group, some]) => {
    const table = new Table<Setting & { id: string }>(named(text.setting_groups, group), [
      { head: text.service.setting, cell: (one) => named(text.setting_names, one.variable) },
      { head: text.service.value, cell: (one) => h("span", {}, h("b", {}, value(one)), !one.is_default && h("small", {}, ` ${text.service.set}`)) },
      { head: text.service.variable, cell: ({ variable }) => h("code", {}, variable) },
    ]);
    table.show(some.map((one) => ({ ...one, id: one.variable })));
    return h("section", { class: "card" }, h("h2", {}, named(text.setting_groups, group)), h("p", { class: "fine" }, text.service.where), table.element);
  });
}

function value({ unit, value: given }: Setting): string {
  if (given === null) return unit === "days" ? text.service.for_ever : text.service.no_limit;
  if (Array.isArray(given)) return given.map((one) => named(text.states, one)).join(", ");
  if (unit === "bytes") return bytes(given);
  if (unit === "s") return span(given);
  if (unit === "share") return percent(given);
  if (unit === "days") return fill(text.settings.days, { n: given });
  if (unit === "count") return given.toLocaleString();
  return fill(unit === "per_s" ? text.service.per_s : text.service.per_minute, { n: given.toLocaleString() });
}
