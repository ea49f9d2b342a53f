// The text a reviewer decides by: `/v1/policy` comes in when it is asked for, a box beside the decision goes out; a service without one hides it.

import { Problem, ask } from "../api";
import { h } from "../dom";
import { recall, remember } from "../remembered";
import { text } from "../text";

const OPEN = "policy-open";

// Asked for when it is opened (and from then on at once): a service that has none would answer 404 to every reviewer at every video.
export function policy(): HTMLElement {
  const body = h("div", { class: "desk-policy-text" });
  let read = false;
  const box = h("details", { class: "desk-policy" }, h("summary", {}, text.desk.policy), body);
  box.addEventListener("toggle", async () => {
    remember("localStorage", OPEN, box.open);
    if (!box.open || read) return;
    try {
      body.replaceChildren((await ask<{ text: string }>("/v1/policy")).text);
      read = true;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 404) box.remove();
      else body.replaceChildren(problem.detail);
    }
  });
  box.open = recall<boolean>("localStorage", OPEN) ?? true;
  return box;
}
