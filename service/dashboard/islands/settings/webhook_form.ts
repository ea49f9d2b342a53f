// The form of a new webhook: a URL and events are chosen, a webhook with its secret goes out, once.

import { ask } from "../api";
import { h } from "../dom";
import { text } from "../text";
import { choices, chosen, field, refuse, whenSent } from "./form";
import { opened } from "./opener";
import type { WebhookWithSecret } from "./wire";

const AT_THE_URL = { "url-not-allowed": "url", "source-not-found": "url", "source-unreachable": "url", "unsupported-media": "url" };

export function webhookForm(onAdded: (webhook: WebhookWithSecret) => Promise<void>): { opener: HTMLElement; element: HTMLElement } {
  const url = h("input", { type: "url", maxlength: 2048, autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: "https://", required: true });
  const description = h("input", { type: "text", maxlength: 200, autocomplete: "off" });
  const events = Object.entries(text.events).filter(([value]) => value !== "ping").map(([value, more]) => ({ value, says: value, more }));
  const form = h("form", { class: "form", "aria-label": text.webhooks.add_title },
    field("url", text.webhooks.url, url, text.webhooks.url_hint),
    field("description", text.webhooks.description, description),
    choices("events", text.webhooks.events, events, { checked: true }),
    h("p", { class: "field-error", "data-error-of": "" }),
    h("p", { class: "actions" }, h("button", { type: "submit", class: "button" }, text.webhooks.add), h("button", { type: "reset", class: "quiet" }, text.settings.cancel)));
  const { opener, close } = opened(text.webhooks.new, form, url);
  whenSent(form, AT_THE_URL, async () => {
    if (!url.value.trim()) throw refuse("url", text.webhooks.needs_url);
    const wanted = chosen(form, "events");
    if (!wanted.length) throw refuse("events", text.webhooks.needs_event);
    // All of them means those to come as well.
    const body = JSON.stringify({ url: url.value.trim(), events: wanted.length === events.length ? null : wanted, description: description.value.trim() || null });
    const webhook = await ask<WebhookWithSecret>("/v1/webhooks", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    close();
    await onAdded(webhook);
  });
  return { opener, element: form };
}
