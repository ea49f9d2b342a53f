// Dialogs: a question comes in, whether it was answered with yes goes out; or a secret comes in, and is shown until its reader has it.

import { h, say } from "../dom";
import { text } from "../text";

export interface Question {
  title: string;
  says: string[];
  act: string;
  // Beside the answer: a choice that belongs to it.
  more?: HTMLElement;
}

export function confirmed({ title, says, act, more }: Question): Promise<boolean> {
  const no = h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, text.settings.cancel);
  const yes = h("button", { type: "button", class: "button grave", onclick: () => dialog.close("yes") }, act);
  const dialog = modal(title, says.map((one) => h("p", {}, one)), more ?? null, h("p", { class: "actions" }, no, yes));
  return shown(dialog, no).then(() => dialog.returnValue === "yes");
}

// There is no second way to it, so nothing but its own button, or copying it before, ends the dialog.
export async function showSecret({ title, says, secret }: { title: string; says: string; secret: string }): Promise<void> {
  const held = h("input", { class: "secret", readonly: true, "aria-label": text.settings.secret, spellcheck: "false", autocomplete: "off" });
  held.value = secret;
  const told = h("p", { class: "fine", role: "status" });
  let copied = false;
  const copy = async (): Promise<void> => {
    copied = await navigator.clipboard?.writeText(secret).then(() => true, () => false) ?? false;
    told.textContent = copied ? text.settings.copied : text.settings.copy_yourself;
    if (copied) return;
    held.focus();
    held.select();
  };
  const copier = h("button", { type: "button", class: "button", onclick: copy }, text.settings.copy);
  const dialog = modal(title,
    h("p", { class: "notice" }, says),
    h("div", { class: "secret-line" }, held, copier), told,
    h("p", { class: "actions" }, h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, text.settings.have_it)));
  dialog.addEventListener("cancel", (event) => {
    if (copied) return;
    event.preventDefault();
    told.textContent = text.settings.not_copied;
  });
  await shown(dialog, copier);
  held.value = "";
}

function modal(title: string, ...children: (Node | Node[] | null)[]): HTMLDialogElement {
  return h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), ...children);
}

async function shown(dialog: HTMLDialogElement, first: HTMLElement): Promise<void> {
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.showModal();
  first.focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.remove();
  if (before instanceof HTMLElement) before.focus();
  say("");
}
