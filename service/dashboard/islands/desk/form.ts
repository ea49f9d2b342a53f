// What a reviewer says of an analysis: keys, choices and text come in, a decision or a skip goes to `listener`.
// What was typed is kept in this tab until it was said, through a lost connection and a new sign-in too.

import { h } from "../dom";
import { recall, remember } from "../remembered";
import { text } from "../text";
import type { Decision } from "./wire";

const DECISIONS: [Decision, string][] = [["genuine", "A"], ["manipulated", "F"], ["unsure", "U"]];
// Clearest first; the catalogue comes in the order of the alphabet.
const REASONS: (keyof typeof text.decision_reasons)[] = [
  "visible_traces",
  "motion_contradicts",
  "voice_contradicts",
  "source_confirms",
  "original_known",
  "looks_as_filmed",
  "edited_but_not_a_face",
  "too_little_to_see",
  "other",
];
const SKIPS: (keyof typeof text.skip_reasons)[] = ["needs_time", "too_distressing", "cannot_play", "not_my_language", "knows_the_person", "other"];
const NOTE_LENGTH = 4000;

export interface Said {
  decision: Decision | null; // null: skipped
  reason: string;
  note: string | null;
}

interface Draft {
  decision: Decision | null;
  reason: string;
  note: string;
  skip: string;
}

export class DecisionForm {
  readonly element: HTMLFormElement;
  readonly #radios: Record<Decision, HTMLInputElement>;
  readonly #reason: HTMLSelectElement;
  readonly #skip: HTMLSelectElement;
  readonly #note: HTMLTextAreaElement;
  readonly #confirm: HTMLButtonElement;
  readonly #leave: HTMLButtonElement;

  // `draft`: a name for what is typed; two people at one browser have two.
  constructor(
    private readonly draft: string,
    private readonly listener: (said: Said) => Promise<void>,
    onGiveBack: () => void,
  ) {
    const radio = (value: Decision): HTMLInputElement => h("input", { type: "radio", name: "decision", value, required: true });
    this.#radios = { genuine: radio("genuine"), manipulated: radio("manipulated"), unsure: radio("unsure") };
    this.#reason = h("select", { id: "desk-reason", required: true }, h("option", { value: "" }, text.desk.choose), REASONS.map((reason) => option(reason, text.decision_reasons[reason])));
    this.#skip = h("select", { id: "desk-skip" }, SKIPS.map((reason) => option(reason, text.skip_reasons[reason])));
    this.#note = h("textarea", { id: "desk-note", rows: 3, maxlength: NOTE_LENGTH, "aria-describedby": "desk-note-hint" });
    this.#confirm = h("button", { type: "submit", class: "button" }, text.desk.confirm);
    this.#leave = h("button", { type: "button", class: "quiet", onclick: () => this.#say(true) }, text.desk.skip);
    this.element = h("form", { class: "desk-form", oninput: () => this.#keep(), onkeydown: (event: KeyboardEvent) => this.#onFormKey(event) },
      h("fieldset", { class: "desk-choices" }, h("legend", {}, text.desk.question),
        DECISIONS.map(([value, key]) => h("label", { class: `desk-choice ${value}` }, this.#radios[value], h("span", {}, text.decisions[value]), h("kbd", {}, key)))),
      field(text.desk.reason, this.#reason),
      field(text.desk.note, this.#note),
      h("p", { class: "fine", id: "desk-note-hint" }, text.desk.note_hint),
      h("p", { class: "actions" }, this.#confirm, h("button", { type: "button", class: "quiet", onclick: onGiveBack }, text.desk.give_back)),
      h("details", { class: "desk-skip" }, h("summary", {}, text.desk.skip_it),
        field(text.desk.skip_reason, this.#skip), h("p", { class: "fine" }, text.desk.skip_hint), this.#leave));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#say(false);
    });
    this.#restore();
  }

  // A, F and U choose, and lead on to the reason.
  onKey(event: KeyboardEvent): boolean {
    const found = DECISIONS.find(([, key]) => key === event.key.toUpperCase());
    if (!found || event.ctrlKey || event.metaKey || event.altKey) return false;
    this.#radios[found[0]].checked = true;
    this.#keep();
    this.#reason.focus();
    return true;
  }

  forget(): void {
    remember("sessionStorage", this.draft, null);
  }

  #onFormKey(event: KeyboardEvent): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.element.requestSubmit(this.#confirm);
    // Back to the video's keys.
    else if (event.key === "Escape") (event.target as HTMLElement).blur();
    else return;
    event.preventDefault();
  }

  async #say(skipped: boolean): Promise<void> {
    const note = this.#note.value.trim() || null;
    const said: Said = skipped ? { decision: null, reason: this.#skip.value, note } : { decision: this.#chosen(), reason: this.#reason.value, note };
    this.#confirm.disabled = this.#leave.disabled = true;
    try {
      await this.listener(said);
    } finally {
      this.#confirm.disabled = this.#leave.disabled = false;
    }
  }

  #chosen(): Decision | null {
    return DECISIONS.find(([value]) => this.#radios[value].checked)?.[0] ?? null;
  }

  #keep(): void {
    this.#note.required = this.#reason.value === "other";
    const draft: Draft = { decision: this.#chosen(), reason: this.#reason.value, note: this.#note.value, skip: this.#skip.value };
    remember("sessionStorage", this.draft, draft);
  }

  #restore(): void {
    const draft = recall<Draft>("sessionStorage", this.draft);
    if (!draft) return;
    if (draft.decision) this.#radios[draft.decision].checked = true;
    this.#reason.value = draft.reason;
    this.#note.value = draft.note;
    this.#skip.value = draft.skip;
    this.#note.required = draft.reason === "other";
  }
}

const field = (word: string, input: HTMLElement): HTMLElement => h("p", { class: "desk-field" }, h("label", { for: input.id }, word), input);

const option = (value: string, word: string): HTMLOptionElement => h("option", { value }, word);
