// Alerts of all cameras: each comes in as it begins, goes on and ends; a list with still, time, length and clip goes out, and a word aloud.

import { byId, bytes, h, probability, say, seconds } from "../dom";
import { fill, text } from "../text";
import { acknowledge, isAcknowledged } from "./acknowledged";
import type { Alert } from "./wire";

const MOST = 50;

interface Listener {
  nameOf: (feed: string) => string;
  onOpen: (feed: string) => void;
  // Feeds with alerts that nobody has seen to.
  onCount: (feeds: Set<string>, n: number) => void;
}

// An alert that could not be kept has no number.
const nameOf = (alert: Alert): string => `${alert.feed_id}/${alert.n ?? alert.told_at}`;

export class Alerts {
  #listener: Listener;
  #alerts = new Map<string, Alert>();
  #items = new Map<string, { element: HTMLLIElement; shown: string }>();

  constructor(listener: Listener) {
    this.#listener = listener;
    byId("acknowledge-all").addEventListener("click", () => {
      acknowledge(...[...this.#alerts.keys()]);
      this.draw();
      byId("alerts-heading").focus();
    });
  }

  // Those that the service has; what it has no more stays until it is pushed out.
  begin(alerts: Alert[]): void {
    for (const alert of alerts) this.#alerts.set(nameOf(alert), alert);
    this.draw();
  }

  told(alert: Alert, change: "began" | "ended" | "clip"): void {
    this.#alerts.set(nameOf(alert), alert);
    this.draw();
    if (change === "began") say(fill(text.wall.alert_said, { name: this.#listener.nameOf(alert.feed_id), track: alert.track, p: probability(alert.peak.p) }));
  }

  forget(feed: string): void {
    for (const [name, alert] of this.#alerts) if (alert.feed_id === feed) this.#alerts.delete(name);
    this.draw();
  }

  draw(): void {
    const newest = [...this.#alerts].sort(([, a], [, b]) => b.told_at.localeCompare(a.told_at));
    for (const [name] of newest.splice(MOST)) this.#alerts.delete(name);
    for (const name of this.#items.keys()) if (!this.#alerts.has(name)) this.#items.delete(name);
    const fresh = newest.filter(([name]) => !isAcknowledged(name));
    const seen = newest.filter(([name]) => isAcknowledged(name));
    place(byId("alerts"), fresh.map(([name, alert]) => this.#item(name, alert, false)));
    place(byId("acknowledged"), seen.map(([name, alert]) => this.#item(name, alert, true)));
    byId("alerts-empty").hidden = fresh.length > 0;
    byId("acknowledge-all").hidden = fresh.length < 2;
    byId("acknowledged-box").hidden = seen.length === 0;
    byId("alert-count").textContent = fresh.length ? String(fresh.length) : "";
    this.#listener.onCount(new Set(fresh.map(([, alert]) => alert.feed_id)), fresh.length);
  }

  // Made anew only when it is another: whoever has the keyboard on it keeps it.
  #item(name: string, alert: Alert, seen: boolean): HTMLLIElement {
    const shown = JSON.stringify([alert, seen, this.#listener.nameOf(alert.feed_id)]);
    const known = this.#items.get(name);
    if (known?.shown === shown) return known.element;
    const element = this.#made(name, alert, seen);
    const had = known?.element.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset.part : undefined;
    known?.element.replaceWith(element);
    if (had) element.querySelector<HTMLElement>(`[data-part="${had}"]`)?.focus();
    this.#items.set(name, { element, shown });
    return element;
  }

  #made(name: string, alert: Alert, seen: boolean): HTMLLIElement {
    const { still, clip } = alert.links;
    const camera = this.#listener.nameOf(alert.feed_id);
    const told = new Date(alert.told_at);
    const words = fill(text.wall.alert_words, { track: alert.track, p: probability(alert.peak.p) });
    // The peak moves while it is open; another address makes the browser look again.
    const picture = still && h("img", { class: "still", src: `${still}?peak=${alert.peak.at.pts}`, alt: fill(text.wall.still_of, { track: alert.track, name: camera }), loading: "lazy", decoding: "async" });
    return h("li", { class: `alert ${alert.state}`, "data-alert": name },
      h("div", { class: "alert-picture" }, picture || h("span", { class: "fine" }, text.wall.no_still)),
      h("div", { class: "alert-words" },
        h("p", { class: "alert-head" }, h("button", { type: "button", class: "alert-name ellipsis", "data-part": "name", onclick: () => this.#listener.onOpen(alert.feed_id) }, camera)),
        h("p", {}, h("b", {}, `▲ ${words}`)),
        h("p", { class: "fine" }, h("time", { datetime: alert.told_at, title: told.toLocaleString() }, told.toLocaleTimeString()), " · ", alert.state === "open" ? fill(text.wall.going_on, { seconds: seconds(alert.seconds) }) : fill(text.wall.lasted, { seconds: seconds(alert.seconds) })),
        h("p", { class: "alert-actions" },
          clip && alert.clip && h("a", { href: clip, target: "_blank", rel: "noopener", "data-part": "clip" }, fill(text.wall.clip, { size: bytes(alert.clip.bytes) })),
          !seen && h("button", { type: "button", class: "quiet", "data-part": "acknowledge", onclick: () => this.#acknowledge(name) }, text.wall.acknowledge))));
  }

  #acknowledge(name: string): void {
    const next = this.#items.get(name)?.element.nextElementSibling?.querySelector<HTMLElement>('[data-part="acknowledge"]');
    acknowledge(name);
    this.draw();
    (next ?? byId("alerts-heading")).focus();
  }
}

// The list as it is to be, without taking out and putting back what stays.
function place(list: HTMLElement, items: HTMLElement[]): void {
  items.forEach((item, n) => {
    if (list.children[n] !== item) list.insertBefore(item, list.children[n] ?? null);
  });
  while (list.children.length > items.length) list.lastElementChild?.remove();
}
