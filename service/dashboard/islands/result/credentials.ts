// What the content credentials in a video say: they come in, sentences go out that make it plain whose claims they are.

import { h } from "../dom";
import { fill, named, text } from "../text";
import type { ContentCredentials } from "../wire";

export function credentials(given: ContentCredentials): HTMLElement {
  const words = text.credentials;
  if (given.state === "none" || given.state === "unreadable") return h("span", {}, words[given.state]);
  const { claim_generator: program, issuer, signer, signed_at: at } = given;
  const by = [signer, issuer].filter(Boolean).join(", ");
  const done = given.actions.map(({ action, agent, source_type: source }) => {
    const what = named(text.credential_actions, action);
    const kind = source?.split("/").pop();
    return [agent ? fill(words.with, { what, agent }) : what, kind && `(${named(text.credential_sources, kind)})`].filter(Boolean).join(" ");
  });
  return h("div", { class: "credentials" },
    h("p", {}, words[given.state], given.state === "invalid" && given.problems.length > 0 && [" ", h("code", {}, given.problems.join(", "))]),
    program && h("p", {}, fill(words.made_with, { program })),
    done.length > 0 && h("p", {}, fill(words.done, { what: done.join("; ") })),
    h("p", {}, by ? fill(words.signed, { by }) : words.signed_by_nobody, at && ` ${fill(words.at, { at })}`),
    h("p", { class: "fine" }, words.claim));
}
