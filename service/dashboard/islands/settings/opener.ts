// A form that is out of the way until it is wanted: its words, the form and its first field come in, a button that opens it goes out.

import { h } from "../dom";
import { blame } from "./faults";

export function opened(words: string, form: HTMLFormElement, first: HTMLElement): { opener: HTMLButtonElement; close: () => void } {
  form.hidden = true;
  form.id = `form-${words.replaceAll(/\W/g, "-").toLowerCase()}`;
  const opener = h("button", { type: "button", class: "button", "aria-expanded": "false", "aria-controls": form.id, onclick: () => show(form.hidden === true) }, words);
  const show = (open: boolean): void => {
    form.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    (open ? first : opener).focus();
  };
  form.addEventListener("reset", () => {
    blame(form, new Map());
    show(false);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(false);
  });
  return { opener, close: () => form.reset() };
}
