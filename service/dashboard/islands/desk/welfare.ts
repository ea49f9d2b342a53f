// A reviewer's eyes and ears: choices kept in this browser come in, classes on <body> go out, by which welfare.css blurs and greys whatever
// shows people; sound is taken from every player. On from the beginning for whoever has a key to review with.

import { h, say } from "../dom";
import { may, me } from "../me";
import { recall, remember } from "../remembered";
import { text } from "../text";

const CARES = ["blur", "grey", "mute"] as const;
type Care = (typeof CARES)[number];
type Cares = Record<Care, boolean>;

const STORED = "welfare";
const LOOK = "welfare-look";
const OFF: Cares = { blur: false, grey: false, mute: false };
let cares: Cares = OFF;
const silenced = new WeakSet<HTMLMediaElement>();

// Called once a page, by its shell.
export async function startWelfare(): Promise<void> {
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "h" || event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    look(true);
  });
  document.addEventListener("keyup", (event) => event.key.toLowerCase() === "h" && look(false));
  window.addEventListener("blur", () => look(false));
  // Media events do not bubble, but pass here on their way down.
  for (const kind of ["loadstart", "play", "volumechange"]) document.addEventListener(kind, (event) => silence(event.target), true);
  const kept = recall<Cares>("localStorage", STORED);
  if (kept) return set({ ...OFF, ...kept });
  const person = await me();
  // Without keys everybody may do everything, which says nothing about what they look at all day.
  if (person?.key_id && may(person, "reviews")) set({ blur: true, grey: true, mute: true });
}

// The switches, and a button to hold. Every copy of them tells the same.
export function welfareControls(): HTMLElement {
  const boxes = CARES.map((care) => h("input", { type: "checkbox", "data-care": care, onchange: (event: Event) => choose(care, (event.target as HTMLInputElement).checked) }));
  show(boxes);
  return h("fieldset", { class: "welfare" }, h("legend", {}, text.welfare.title),
    boxes.map((box, n) => h("label", { class: "switch" }, box, ` ${text.welfare[CARES[n]!]}`)), peep());
}

const show = (boxes: Iterable<HTMLInputElement>): void => {
  for (const box of boxes) box.checked = cares[box.dataset.care as Care];
};

function peep(): HTMLButtonElement {
  const held = (event: KeyboardEvent): boolean => event.key === " " || event.key === "Enter";
  return h("button", {
    type: "button",
    class: "quiet",
    onpointerdown: () => look(true),
    onpointerup: () => look(false),
    onpointercancel: () => look(false),
    onpointerleave: () => look(false),
    onkeydown: (event: KeyboardEvent) => held(event) && look(true),
    onkeyup: (event: KeyboardEvent) => held(event) && look(false),
  }, text.welfare.look, " ", h("kbd", {}, "H"));
}

function choose(care: Care, on: boolean): void {
  set({ ...cares, [care]: on });
  remember("localStorage", STORED, cares);
  say(`${text.welfare[care]}: ${on ? text.welfare.on : text.welfare.off}`);
}

function set(wanted: Cares): void {
  cares = wanted;
  for (const care of CARES) document.body.classList.toggle(`welfare-${care}`, cares[care]);
  for (const player of document.querySelectorAll<HTMLMediaElement>("audio, video")) {
    if (cares.mute) silence(player);
    else if (silenced.delete(player)) player.muted = false;
  }
  show(document.querySelectorAll<HTMLInputElement>("input[data-care]"));
}

function silence(target: EventTarget | null): void {
  if (!cares.mute || !(target instanceof HTMLMediaElement) || target.muted) return;
  silenced.add(target);
  target.muted = true;
}

function look(on: boolean): void {
  document.body.classList.toggle(LOOK, on);
}

const typing = (target: EventTarget | null): boolean => target instanceof Element && target.matches("input:not([type=checkbox], [type=radio]), select, textarea");
