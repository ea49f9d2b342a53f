// The catalogue's sections that this page was given (`text.py`) come in, words go out. A key that en.json lacks does not compile.

import type en from "../text/en.json";

export type Catalogue = typeof en;

const given = document.getElementById("text")?.textContent;
export const text = JSON.parse(given ?? "{}") as Catalogue;

// Puts values where their names stand in braces; what comes out is text, and is never read as markup.
export const fill = (pattern: string, values: Record<string, string | number>): string =>
  pattern.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));

// The entry of a section for a code of the wire; a code that is newer than the catalogue is shown as it came.
export function named(section: Record<string, string>, code: string): string {
  return section[code] ?? code.replaceAll("_", " ");
}
