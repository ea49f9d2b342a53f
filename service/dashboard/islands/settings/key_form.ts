// The form of a new key: a name, scopes and an end are chosen, a key with its secret goes out, once.

import { Problem, ask, slug } from "../api";
import { h } from "../dom";
import { fill, text } from "../text";
import { choices, chosen, field, refuse, whenSent } from "./form";
import { opened } from "./opener";
import type { NewKey } from "./wire";

const DAYS = [7, 30, 90, 365];
const USUAL = 90;
const DAY_MS = 86_400_000;

export function keyForm(onMade: (key: NewKey) => Promise<void>): { opener: HTMLElement; element: HTMLElement } {
  const name = h("input", { type: "text", maxlength: 100, autocomplete: "off", required: true });
  const lasts = h("select", {},
    DAYS.map((days) => h("option", { value: days, selected: days === USUAL }, fill(text.keys.in_days, { n: days }))),
    h("option", { value: "day" }, text.keys.on_a_day), h("option", { value: "never" }, text.keys.never));
  const day = h("input", { type: "date" });
  const dayField = field("day", text.keys.day, day);
  dayField.hidden = true;
  lasts.addEventListener("change", () => (dayField.hidden = lasts.value !== "day"));
  const scopes = Object.entries(text.scopes).map(([value, more]) => ({ value, says: value, more }));
  const form = h("form", { class: "form", "aria-label": text.keys.make_title },
    field("name", text.keys.name, name, text.keys.name_hint),
    choices("scopes", text.keys.scopes, scopes, { checked: false }),
    h("div", { class: "row" }, field("expires_at", text.keys.lasts, lasts), dayField),
    h("p", { class: "field-error", "data-error-of": "" }),
    h("p", { class: "actions" }, h("button", { type: "submit", class: "button" }, text.keys.make), h("button", { type: "reset", class: "quiet" }, text.settings.cancel)));
  const { opener, close } = opened(text.keys.new, form, name);
  form.addEventListener("reset", () => (dayField.hidden = true));

  whenSent(form, { "not-permitted": "expires_at" }, async () => {
    if (!name.value.trim()) throw refuse("name", text.keys.needs_name);
    const wanted = chosen(form, "scopes");
    if (!wanted.length) throw refuse("scopes", text.keys.needs_scope);
    const body = JSON.stringify({ name: name.value.trim(), scopes: wanted, expires_at: end() });
    const key = await ask<NewKey>("/v1/keys", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch((problem) => {
      // It may have been made, and nobody has its secret.
      if (problem instanceof Problem && slug(problem) === "no-connection") problem.detail = text.keys.lost;
      throw problem;
    });
    close();
    await onMade(key);
  });

  function end(): string | null {
    if (lasts.value === "never") return null;
    if (lasts.value !== "day") return new Date(Date.now() + Number(lasts.value) * DAY_MS).toISOString();
    // The last moment of that day, where the reader is.
    const at = new Date(`${day.value}T23:59:59`);
    if (Number.isNaN(at.getTime()) || at.getTime() < Date.now()) throw refuse("day", text.keys.needs_day);
    return at.toISOString();
  }
  return { opener, element: form };
}
