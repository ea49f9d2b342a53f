// Who reads a page of settings: what it needs comes in, its content is begun, or a sentence says what is missing and who can give it.

import { ask } from "../api";
import { h } from "../dom";
import { may } from "../me";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import type { Me } from "./wire";

// Fills `place` once it is known who asks; a lost connection can be tried again.
export async function begin(place: HTMLElement, scope: string, show: (me: Me) => void): Promise<void> {
  place.replaceChildren(h("p", { class: "fine", role: "status" }, text.settings.loading));
  try {
    const me = await ask<Me>("/v1/me");
    place.replaceChildren();
    if (may(me, scope)) show(me);
    else place.append(missing(me, scope));
  } catch (problem) {
    place.replaceChildren(problemCard(problem, { again: () => void begin(place, scope, show) }));
  }
}

function missing(me: Me, scope: string): HTMLElement {
  const has = me.scopes.length ? me.scopes.join(", ") : text.settings.nothing;
  return h("section", { class: "card missing" },
    h("h2", {}, text.settings.missing_title),
    h("p", {}, fill(text.settings.missing, { name: me.name, scope, has })),
    h("p", { class: "fine" }, text.settings.missing_do, " ", h("code", {}, `undercurrent keys create NAME --tenant ${me.tenant} --scope ${scope}`)));
}
