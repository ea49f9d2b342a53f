// How the service fares: the answer of `/v1/system` comes in, tiles with a number, a word and a sign each go out.

import { bytes, h } from "../dom";
import { fill, named, text } from "../text";
import { span } from "./words";
import type { Reach, System } from "./wire";

type State = "good" | "bad" | "plain";
const SIGNS: Record<State, string> = { good: "○", bad: "!", plain: "" };

export function health(system: System): HTMLElement {
  const { queue, webhooks, live, gpus } = system;
  const unknown = tileOf(text.common.unknown, text.service.no_database, "bad");
  const tiles: [string, HTMLElement][] = [
    [text.service.database, reach(system.database)],
    [text.service.store, reach(system.store)],
    [text.service.disk, tileOf(bytes(system.disk_free_bytes), text.service.free)],
    [text.service.queue, queue ? tileOf(fill(text.service.waiting, { n: queue.queued }),
      fill(text.service.running, { n: queue.running, workers: queue.workers }) + (queue.queued ? ` ${fill(text.service.oldest, { age: span(queue.oldest_age_s) })}` : "")) : unknown],
    [text.service.webhooks, webhooks ? tileOf(fill(text.service.pending, { n: webhooks.pending }),
      webhooks.pending ? fill(text.service.oldest, { age: span(webhooks.oldest_age_s) }) : text.service.all_told) : unknown],
    [text.service.streams, tileOf(fill(text.service.some_of, { n: live.streams, most: live.max_streams }), fill(text.service.refused, { n: live.refused }))],
    [text.service.feeds, tileOf(String(Object.values(live.feeds).reduce((sum, n) => sum + n, 0)),
      Object.entries(live.feeds).filter(([, n]) => n).map(([state, n]) => `${n} ${named({}, state)}`).join(", ") || text.service.no_feeds)],
    [text.service.latency, latency(system)],
    ...gpus.map(({ name, used_bytes: used, total_bytes: total, own_bytes: own }): [string, HTMLElement] =>
      [name, tileOf(fill(text.service.of, { have: bytes(used), most: bytes(total) }), fill(text.service.own, { own: bytes(own) }))]),
  ];
  return h("section", { class: "card" }, h("h2", {}, text.service.health),
    system.stopping && h("p", { class: "notice" }, text.service.stopping),
    h("dl", { class: "tiles" }, tiles.map(([name, tile]) => h("div", { class: "tile" }, h("dt", {}, name), tile))),
    !gpus.length && h("p", { class: "fine" }, text.service.no_gpu));
}

function tileOf(words: string, more: string, state: State = "plain"): HTMLElement {
  return h("dd", { class: state }, h("b", {}, SIGNS[state] && h("span", { "aria-hidden": "true" }, `${SIGNS[state]} `), words), h("span", { class: "fine" }, more));
}

function reach({ kind, reachable, trouble }: Reach): HTMLElement {
  return tileOf(reachable ? text.service.reachable : text.service.away, trouble ?? named(text.service, `kind_${kind}`), reachable ? "good" : "bad");
}

function latency({ live }: System): HTMLElement {
  const target = fill(text.service.target_says, { target: span(live.target_s), hz: live.hz.toFixed(1), full: live.full_hz });
  if (live.mean_s === null) return tileOf(text.service.nothing_scored, target);
  const late = live.p95_s === null || live.p95_s > live.target_s;
  return tileOf(live.p95_s === null ? text.service.over : fill(text.service.p95, { p95: span(live.p95_s) }), `${fill(text.service.mean, { mean: span(live.mean_s) })} ${target}`, late ? "bad" : "good");
}
