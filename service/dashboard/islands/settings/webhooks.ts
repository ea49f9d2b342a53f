// Webhooks: those of this tenant are asked for and listed, each as a card (`webhook_card.ts`); new ones are added (`webhook_form.ts`).

import { ask } from "../api";
import { h, say } from "../dom";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import { showSecret } from "./dialog";
import { webhookCard } from "./webhook_card";
import { webhookForm } from "./webhook_form";
import type { Page, Webhook } from "./wire";

export function webhooks(place: HTMLElement): void {
  const cards = h("ul", { class: "cards", "aria-label": text.webhooks.title });
  const state = h("div", { class: "paged-state" });
  const form = webhookForm(async (webhook) => {
    cards.prepend(webhookCard(webhook, settle));
    settle();
    await showSecret({ title: text.webhooks.secret_title, says: text.webhooks.secret_says, secret: webhook.secret });
    say(fill(text.webhooks.was_added, { url: webhook.url }));
  });
  place.append(
    h("section", { class: "card" }, h("div", { class: "split" }, h("h2", {}, text.webhooks.title), form.opener), h("p", { class: "fine" }, text.webhooks.lead), form.element),
    cards, state);
  void load(null);

  function settle(next: string | null = null): void {
    state.replaceChildren(...(cards.childElementCount ? [] : [h("p", { class: "nothing" }, text.webhooks.none)]),
      ...(next ? [h("button", { type: "button", class: "quiet", onclick: () => void load(next) }, text.settings.older)] : []));
  }

  async function load(cursor: string | null): Promise<void> {
    state.replaceChildren(h("p", { class: "fine", role: "status" }, text.settings.loading));
    try {
      const page = await ask<Page<Webhook>>(`/v1/webhooks?${new URLSearchParams({ limit: "100", ...(cursor && { cursor }) })}`);
      cards.append(...page.items.map((one) => webhookCard(one, settle)));
      settle(page.next);
    } catch (problem) {
      state.replaceChildren(problemCard(problem, { again: () => void load(cursor) }));
    }
  }
}
