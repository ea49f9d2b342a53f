// One webhook: its row comes in; its state, what can be done with it and what became of its deliveries go out as a card.

import { ask } from "../api";
import { h, say } from "../dom";
import { text } from "../text";
import { problemCard } from "../trouble";
import { attempt } from "./attempts";
import { deliveries } from "./deliveries";
import { confirmed, showSecret } from "./dialog";
import { moment, since } from "./words";
import type { Delivery, Webhook, WebhookWithSecret } from "./wire";

export function webhookCard(given: Webhook, onGone: () => void): HTMLElement {
  let webhook = given;
  const facts = h("div", { class: "stack" });
  const came = h("div", { class: "came", role: "status" });
  const told = deliveries(webhook);
  const button = (words: string, act: () => Promise<void>, kind = ""): HTMLButtonElement =>
    h("button", { type: "button", class: `quiet ${kind}`, "aria-label": `${words}: ${webhook.url}`, onclick: () => void once(act) }, words);
  const toggle = button(text.webhooks.turn_off, turn);
  const card = h("li", { class: "card webhook", "data-id": webhook.id }, facts,
    h("p", { class: "actions" }, button(text.webhooks.test, test), told.opener, button(text.webhooks.rotate, rotate), toggle, button(text.webhooks.remove, remove, "danger")),
    came, told.element);
  draw();
  return card;

  function draw(): void {
    const events = webhook.events ?? [text.webhooks.all_events];
    facts.replaceChildren(
      h("h3", { class: "url" }, h("bdi", {}, webhook.url)),
      ...(webhook.description ? [h("p", {}, h("bdi", {}, webhook.description))] : []),
      h("p", { class: "line" }, chip(webhook), h("span", { class: "fine" }, text.webhooks.added, " ", since(webhook.created_at))),
      ...(webhook.failing_since ? [h("p", { class: "warn" }, text.webhooks.failing_since, " ", moment(webhook.failing_since))] : []),
      ...(webhook.previous_secrets_until ? [h("p", { class: "fine" }, text.webhooks.both_until, " ", moment(webhook.previous_secrets_until))] : []),
      h("ul", { class: "scopes", "aria-label": text.webhooks.events }, events.map((event) => h("li", {}, webhook.events ? h("code", {}, event) : event))));
    toggle.textContent = webhook.enabled ? text.webhooks.turn_off : text.webhooks.turn_on;
    toggle.setAttribute("aria-label", `${toggle.textContent}: ${webhook.url}`);
  }

  // One thing at a time; what fails says so in the card, and can be tried again there.
  async function once(act: () => Promise<void>): Promise<void> {
    if (card.getAttribute("aria-busy")) return;
    card.setAttribute("aria-busy", "true");
    came.replaceChildren();
    try {
      await act();
    } catch (problem) {
      came.replaceChildren(problemCard(problem, { again: () => void once(act) }));
    } finally {
      card.removeAttribute("aria-busy");
    }
  }

  async function test(): Promise<void> {
    came.replaceChildren(h("p", { class: "fine" }, text.webhooks.testing));
    const delivery = await ask<Delivery>(webhook.links.test, { method: "POST" });
    const last = delivery.attempts.at(-1);
    came.replaceChildren(h("p", {}, h("b", {}, delivery.status === "delivered" ? text.webhooks.test_ok : text.webhooks.test_failed)), ...(last ? [attempt(last)] : []));
    told.refresh();
  }

  async function rotate(): Promise<void> {
    const overlaps: [number, string][] = [[86_400, text.webhooks.overlap_day], [3600, text.webhooks.overlap_hour], [0, text.webhooks.overlap_none]];
    const overlap = h("select", { id: "overlap" }, overlaps.map(([seconds, words]) => h("option", { value: seconds }, words)));
    const more = h("p", { class: "field" }, h("label", { for: "overlap" }, text.webhooks.overlap), overlap);
    if (!(await confirmed({ title: text.webhooks.rotate_title, says: [text.webhooks.rotate_says], act: text.webhooks.rotate, more }))) return;
    const body = JSON.stringify({ overlap_s: Number(overlap.value) });
    const { secret, ...changed } = await ask<WebhookWithSecret>(webhook.links.rotate, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    webhook = changed;
    draw();
    await showSecret({ title: text.webhooks.secret_title, says: text.webhooks.secret_says, secret });
  }

  async function turn(): Promise<void> {
    const body = JSON.stringify({ enabled: !webhook.enabled });
    webhook = await ask<Webhook>(webhook.links.self, { method: "PATCH", headers: { "Content-Type": "application/json" }, body });
    draw();
    say(webhook.enabled ? text.webhooks.was_turned_on : text.webhooks.was_turned_off);
  }

  async function remove(): Promise<void> {
    if (!(await confirmed({ title: text.webhooks.remove_title, says: [webhook.url, text.webhooks.remove_says], act: text.webhooks.remove }))) return;
    await ask<void>(webhook.links.self, { method: "DELETE" });
    card.remove();
    onGone();
    say(text.webhooks.was_removed);
  }
}

function chip({ enabled, disabled, failing_since: failing }: Webhook): HTMLElement {
  const [kind, glyph, words] = enabled
    ? failing ? ["failed", "!", text.webhooks.failing] : ["running", "○", text.webhooks.on]
    : disabled === "asked" ? ["", "–", text.webhooks.off_asked] : ["failed", "×", disabled === "gone" ? text.webhooks.off_gone : text.webhooks.off_failing];
  return h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, glyph), ` ${words}`);
}
