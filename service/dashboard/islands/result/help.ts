// Which key does what: nothing comes in, a dialog goes out that a key or a button opens.

import { h } from "../dom";
import { text } from "../text";

const KEYS: [keyof typeof text.keyboard, ...string[]][] = [
  ["play", "space"],
  ["frame", "←", "→"],
  ["segment", "N", "P"],
  ["zoom", "+", "-", "0"],
  ["decide", "A", "F", "U"],
  ["help", "?"],
];

export function helpDialog(): HTMLDialogElement {
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title" });
  dialog.append(
    h("h2", { id: "help-title" }, text.keyboard.title),
    h("dl", {}, KEYS.map(([what, ...keys]) => [h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, text.keyboard[what])])),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, text.keyboard.close),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  // The page behind it hears no keys, the decision's least of all.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  return dialog;
}
