// Deliveries of one webhook: they are asked for when somebody wants to see them, page by page, each with its attempts, and sent again on wish.

import { ask } from "../api";
import { h, say } from "../dom";
import { fill, named, text } from "../text";
import { problemCard } from "../trouble";
import { attempt } from "./attempts";
import { Paged } from "./paged";
import { Table } from "./table";
import { moment } from "./words";
import type { Delivery, Webhook } from "./wire";

const CHIPS: Record<Delivery["status"], [string, string]> = { pending: ["", "…"], delivered: ["running", "○"], failed: ["failed", "!"] };
const LOOK_MS = 700; // At what was sent again, until something came of it,
const LOOKS = 20; // or so often: its receiver may be away for days.

export function deliveries(webhook: Webhook): { opener: HTMLElement; element: HTMLElement; refresh: () => void } {
  const trouble = h("div", { role: "alert" });
  const only = h("select", { id: `only-${webhook.id}` }, h("option", { value: "" }, text.webhooks.any_status),
    (["pending", "delivered", "failed"] as const).map((status) => h("option", { value: status }, text.delivery_states[status])));
  const table = new Table<Delivery>(text.webhooks.deliveries, [
    { head: text.webhooks.event, cell: (one) => h("div", { class: "stack" }, h("b", {}, one.event), h("span", { class: "fine" }, named(text.events, one.event)), h("code", {}, one.event_id)) },
    { head: text.webhooks.noted, cell: (one) => moment(one.created_at, { seconds: true }) },
    { head: text.webhooks.status, cell: status },
    { head: text.webhooks.attempts, cell: (one) => one.attempts.length ? h("ol", { class: "attempts" }, one.attempts.map((tried) => h("li", {}, attempt(tried)))) : text.webhooks.not_tried },
    { head: text.webhooks.replay, quiet: true, cell: (one) => h("button", {
      type: "button", class: "quiet", "aria-label": `${text.webhooks.replay}: ${one.event} ${one.event_id}`, onclick: () => void replay(one) }, text.webhooks.replay) },
  ]);
  const list = new Paged(table, () => `${webhook.links.deliveries}?limit=10${only.value && `&status=${only.value}`}`, text.webhooks.no_deliveries);
  only.addEventListener("change", () => void list.load());
  const element = h("section", { class: "deliveries", id: `deliveries-${webhook.id}`, "aria-label": `${text.webhooks.deliveries}: ${webhook.url}`, hidden: true },
    h("div", { class: "split" }, h("h4", {}, text.webhooks.deliveries),
      h("p", { class: "line" }, h("label", { for: only.id, class: "fine" }, text.webhooks.status), only,
        h("button", { type: "button", class: "quiet", onclick: () => void list.load() }, text.settings.reload))),
    trouble, list.element);
  const opener = h("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": element.id, "aria-label": `${text.webhooks.deliveries}: ${webhook.url}`, onclick: () => {
    element.hidden = !element.hidden;
    opener.setAttribute("aria-expanded", String(!element.hidden));
    if (!element.hidden) void list.load();
  } }, text.webhooks.deliveries);
  const refresh = (): void => {
    if (!element.hidden) void list.load();
  };
  return { opener, element, refresh };

  async function replay(one: Delivery): Promise<void> {
    trouble.replaceChildren();
    try {
      const tried = one.attempts.length;
      let now = await ask<Delivery>(one.links.replay, { method: "POST" });
      table.put(now);
      say(fill(text.webhooks.was_replayed, { event: one.event }));
      for (let n = 0; n < LOOKS && now.attempts.length === tried; n += 1) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        now = await ask<Delivery>(one.links.self);
      }
      table.put(now);
      if (now.attempts.length > tried) say(named(text.delivery_states, now.status));
    } catch (problem) {
      trouble.replaceChildren(problemCard(problem, { again: () => void replay(one) }));
    }
  }
}

function status(one: Delivery): HTMLElement {
  const [kind, glyph] = CHIPS[one.status];
  return h("div", { class: "stack" }, h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, glyph), ` ${text.delivery_states[one.status]}`),
    one.next_attempt_at && one.attempts.length > 0 && h("span", { class: "fine" }, text.webhooks.again_at, " ", moment(one.next_attempt_at)));
}
