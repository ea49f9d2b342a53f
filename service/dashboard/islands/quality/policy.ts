// The policy's editor: the version in force comes in with its ETag, a new version goes out once its author has said yes.

import { Problem, ask, askAgain, slug } from "../api";
import { h, say } from "../dom";
import { confirmed } from "../settings/dialog";
import { moment } from "../settings/words";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import type { Policy } from "./wire";

const PATH = "/v1/policy";
const LONGEST = 20_000;
const words = text.quality;

export function policyCard(): HTMLElement {
  const body = h("div", { class: "policy" });
  void load(body);
  return h("section", { class: "card" }, h("h2", {}, words.policy), h("p", { class: "fine" }, words.policy_hint), body);
}

async function load(body: HTMLElement): Promise<void> {
  try {
    const found = await askAgain<Policy>(PATH, null);
    if (found) body.replaceChildren(editor(found.body, found.etag));
  } catch (problem) {
    body.replaceChildren(problemCard(problem, { again: () => void load(body) }));
  }
}

function editor(policy: Policy, etag: string | null): HTMLElement {
  const area = h("textarea", { id: "policy-text", rows: 16, maxlength: LONGEST, required: true });
  area.value = policy.text;
  const state = h("p", { class: "fine" }, ...origin(policy));
  const told = h("div", { role: "status" });
  const form = h("form", { class: "policy-form" }, state, h("label", { for: "policy-text" }, words.policy_text), area, told,
    h("p", { class: "actions" }, h("button", { class: "button" }, words.save)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (area.value.trim() === policy.text.trim()) {
      told.replaceChildren(words.unchanged);
      return;
    }
    if (!(await confirmed({ title: words.confirm_title, says: [words.confirm], act: words.confirm_act }))) return;
    told.replaceChildren();
    try {
      const headers = { "Content-Type": "application/json", "If-Match": etag ?? "" };
      policy = await ask<Policy>(PATH, { method: "PUT", headers, body: JSON.stringify({ text: area.value }) });
      etag = (await askAgain<Policy>(PATH, null))?.etag ?? null;
      area.value = policy.text;
      state.replaceChildren(...origin(policy));
      told.replaceChildren(fill(words.saved, { n: policy.version }));
      say(fill(words.saved, { n: policy.version }));
    } catch (problem) {
      if (problem instanceof Problem && slug(problem) === "policy-changed") await compare();
      else told.replaceChildren(problemCard(problem));
    }
  });

  // What was typed stays; the other text stands beside it, and the next try is against that one.
  async function compare(): Promise<void> {
    const found = await askAgain<Policy>(PATH, null).catch(() => null);
    if (!found) return;
    ({ body: policy, etag } = found);
    state.replaceChildren(...origin(policy));
    told.replaceChildren(h("p", { class: "notice" }, words.changed),
      h("details", { open: true }, h("summary", {}, words.theirs), h("p", { class: "policy-theirs" }, policy.text)));
  }
  return form;
}

function origin({ version, at, author }: Policy): (Node | string)[] {
  if (at === null) return [words.shipped];
  const [before, after] = fill(words.version, { n: version, who: author ?? "" }).split("{when}");
  return [before ?? "", moment(at), after ?? ""];
}
