// What is unsafe about this deployment: findings come in, a list with what to do about each goes out, the gravest first.

import { h } from "../dom";
import { text } from "../text";
import type { Finding, System } from "./wire";

const CHIPS: Record<Finding["severity"], [string, string]> = { unsafe: ["manipulated", "▲"], warning: ["failed", "!"], info: ["", "i"] };

export function findings({ findings: found }: System): HTMLElement {
  return h("section", { class: "card" }, h("h2", {}, text.service.findings),
    found === null && h("p", { class: "fine" }, text.service.findings_elsewhere),
    found?.length === 0 && h("p", {}, text.service.no_findings),
    found && found.length > 0 && h("ul", { class: "findings" }, found.map(({ severity, code, says, do: what }) => h("li", { "data-code": code },
      h("span", { class: `chip ${CHIPS[severity][0]}` }, h("span", { "aria-hidden": "true" }, CHIPS[severity][1]), ` ${text.service[severity]}`),
      h("div", { class: "stack" }, h("p", {}, says), h("p", { class: "fine" }, text.service.what_to_do, " ", coded(what)))))));
}

// What to type stands in backticks.
const coded = (words: string): (HTMLElement | string)[] => words.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part));
