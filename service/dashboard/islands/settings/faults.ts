// What is wrong with a form: a Problem comes in, what is wrong with which field goes out, and is said there and aloud.

import { type Problem, slug } from "../api";
import { say } from "../dom";
import { difference } from "../trouble";

// What is wrong with which field, by its name; what `places` knows no field for, under "".
export function faults(problem: Problem, places: Record<string, string>): Map<string, string> {
  const found = new Map<string, string>();
  for (const { pointer, detail } of problem.errors ?? []) {
    const field = pointer.split("/")[2] ?? "";
    if (!found.has(field)) found.set(field, detail);
  }
  if (!found.size) found.set(places[slug(problem)] ?? "", [problem.detail, difference(problem)].filter(Boolean).join(" "));
  return found;
}

// Said at each field of a form, and aloud; what has no field there stands at its end.
export function blame(form: HTMLFormElement, wrong: Map<string, string>): void {
  for (const place of form.querySelectorAll<HTMLElement>("[data-error-of]")) {
    const said = wrong.get(place.dataset.errorOf ?? "") ?? "";
    place.textContent = said;
    for (const control of form.querySelectorAll(`[aria-describedby~="${place.id}"]`)) {
      if (said) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
  }
  const names = [...form.querySelectorAll<HTMLElement>("[data-error-of]")].map((place) => place.dataset.errorOf);
  const homeless = [...wrong].filter(([field]) => !names.includes(field)).map(([, said]) => said);
  const rest = form.querySelector<HTMLElement>('[data-error-of=""]');
  if (rest && homeless.length) rest.textContent = [rest.textContent, ...homeless].filter(Boolean).join(" ");
  if (wrong.size) say([...wrong.values()].join(" "));
  form.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
}
