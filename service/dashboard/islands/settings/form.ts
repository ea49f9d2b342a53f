// Parts of forms: a name, words and a control come in, a labelled field with room for its hint and its error goes out; sent by `Sender`.

import { Problem } from "../api";
import { h } from "../dom";
import { blame, faults } from "./faults";

let made = 0;

export function field(name: string, label: string, control: HTMLElement, hint?: string): HTMLElement {
  const id = `field-${(made += 1)}`;
  control.id = id;
  control.setAttribute("name", name);
  control.setAttribute("aria-describedby", hint ? `${id}-hint ${id}-error` : `${id}-error`);
  return h("p", { class: "field" }, h("label", { for: id }, label), control,
    hint && h("span", { id: `${id}-hint`, class: "fine" }, hint), h("span", { id: `${id}-error`, class: "field-error", "data-error-of": name }));
}

export interface Choice {
  value: string;
  says: string;
  more: string;
}

// Several of some, each with a sentence of its own.
export function choices(name: string, legend: string, all: Choice[], { checked }: { checked: boolean }): HTMLFieldSetElement {
  const id = `field-${(made += 1)}`;
  return h("fieldset", { class: "choices" }, h("legend", {}, legend),
    h("p", { id: `${id}-error`, class: "field-error", "data-error-of": name }),
    all.map(({ value, says, more }, n) => h("div", { class: "choice" },
      h("input", { type: "checkbox", id: `${id}-${n}`, name, value, checked, "aria-describedby": `${id}-${n}-more ${id}-error` }),
      h("label", { for: `${id}-${n}` }, says), h("span", { id: `${id}-${n}-more`, class: "fine" }, more))));
}

export const chosen = (form: HTMLFormElement, name: string): string[] =>
  [...form.querySelectorAll<HTMLInputElement>(`input[name="${name}"]:checked`)].map((box) => box.value);

// One request at a time for what is written in a form; `places` says at which field a problem of which kind belongs.
export function whenSent(form: HTMLFormElement, places: Record<string, string>, send: () => Promise<void>): void {
  let busy = false;
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    form.setAttribute("aria-busy", "true");
    blame(form, new Map());
    try {
      await send();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      blame(form, faults(error, places));
    } finally {
      busy = false;
      form.removeAttribute("aria-busy");
    }
  });
}

// A refusal of the page's own, said as those of the service are.
export const refuse = (name: string, detail: string): Problem =>
  new Problem({ title: detail, detail, errors: [{ pointer: `/body/${name}`, detail }] });
