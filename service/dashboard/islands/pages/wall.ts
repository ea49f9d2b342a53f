// The live wall: all cameras come in over one connection; tiles, alerts and the one that is looked at closely go out.

import { Problem, ask } from "../api";
import { welfareControls } from "../desk/welfare";
import { byId, say } from "../dom";
import { type Look, dress } from "../state_chip";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import { Alerts } from "../wall/alerts";
import { type Link, WallConnection } from "../wall/connection";
import { Focus } from "../wall/focus";
import { FeedForm } from "../wall/form";
import { heard } from "../wall/service_clock";
import { kindOf } from "../wall/states";
import { Tile } from "../wall/tile";
import type { Alert, Feed, FeedPage, History, OfFeed } from "../wall/wire";

const DRAW_MS = 1000;
const LIST_MS = 10_000; // What no event tells: names, rules, totals, and feeds of other replicas.
const LINK_LOOKS: Record<Link["name"], Look> = { connecting: "coming", open: "running", waiting: "cut", refused: "cut" };
const STILL_MS = 250; // Between two looks for a tile whose still is due.

const tiles = new Map<string, Tile>();
const histories = new Map<string, History["looks"]>(); // Of feeds that the list has not told yet.
let link: Link = { name: "connecting" };
let asked = 0;

const form = new FeedForm((feed) => {
  asked += 1; // A list that is on its way does not have it.
  if (!tiles.has(feed.id)) add(feed);
  settle();
  tiles.get(feed.id)?.focus();
});
const alerts = new Alerts({ nameOf: (feed) => tiles.get(feed)?.name ?? text.wall.removed, onOpen: open, onCount: count });
const focus = new Focus({ onClosed: () => remember(null), onChanged: () => void refresh(), onTrouble: trouble });

const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = tiles.get((target as HTMLElement).dataset.feed ?? "");
    if (tile) tile.seen = isIntersecting;
  }
});

byId("welfare").replaceChildren(welfareControls());

// ---- what the service says

new WallConnection({
  onLink(now) {
    if (now.name !== "connecting" || link.name !== "waiting") link = now;
    tellLink();
  },
  onHello({ at, resumed }) {
    heard(at);
    if (!resumed) void refresh(true);
  },
  onHistory({ feed_id, looks }) {
    const tile = tiles.get(feed_id);
    if (tile) tile.line.begin(looks);
    else histories.set(feed_id, looks);
  },
  onEvent: hear,
});

function hear({ feed_id, event }: OfFeed): void {
  if (event.type === "alert") alerts.told(event.alert, event.change);
  const tile = tiles.get(feed_id);
  if (!tile) {
    if (event.type === "state") void refresh();
    if (event.type === "looks") histories.set(feed_id, [...(histories.get(feed_id) ?? []), [event.arrived_at, event.p]]);
    return;
  }
  if (event.type === "looks") {
    heard(event.arrived_at + event.latency_s);
    tile.look(event);
  } else if (event.type === "state") {
    tile.change(event);
    summarise();
    if (focus.tile === tile) focus.draw();
  }
}

// The list as the service has it, and with `everything` the newest alerts. Of two that are under way the later one holds.
async function refresh(everything = false): Promise<void> {
  const ticket = (asked += 1);
  try {
    const feeds: Feed[] = [];
    for (let next: string | null = ""; next !== null; ) {
      const page: FeedPage = await ask<FeedPage>(`/v1/feeds?${new URLSearchParams({ limit: "100", ...(next ? { cursor: next } : {}) })}`);
      feeds.push(...page.items);
      next = page.next;
    }
    const newest = everything || feeds.some((feed) => feed.state === "elsewhere") ? await ask<{ items: Alert[] }>("/v1/alerts?limit=50") : null;
    if (newest) alerts.begin(newest.items);
    if (ticket !== asked) return;
    arrange(feeds.reverse());
    trouble(null);
  } catch (error) {
    // Without a connection the page says so already.
    if (!(error instanceof Problem) || error.status !== undefined) trouble(error);
  }
}

function arrange(feeds: Feed[]): void {
  const gone = new Set(tiles.keys());
  for (const feed of feeds) {
    gone.delete(feed.id);
    const known = tiles.get(feed.id);
    if (known) known.update(feed);
    else add(feed);
  }
  for (const id of gone) remove(id);
  byId("tiles").dataset.loaded = "";
  settle();
  focus.draw();
  const wanted = tiles.get(location.hash.slice(1));
  if (wanted && !focus.tile) focus.open(wanted);
}

// Other cameras are there than before.
function settle(): void {
  byId("empty").hidden = tiles.size > 0;
  summarise();
  alerts.draw();
}

function add(feed: Feed): void {
  const tile = new Tile(feed, () => (focus.tile === tile ? focus.close() : open(feed.id)));
  tile.line.begin(histories.get(feed.id) ?? []);
  histories.delete(feed.id);
  tiles.set(feed.id, tile);
  byId("tiles").append(tile.element);
  visible.observe(tile.element);
  tile.draw();
}

function remove(id: string): void {
  const tile = tiles.get(id);
  if (!tile) return;
  if (focus.tile === tile) focus.close();
  visible.unobserve(tile.element);
  if (tile.element.contains(document.activeElement)) byId("add-open").focus();
  tile.element.remove();
  tiles.delete(id);
  alerts.forget(id);
}

// ---- what a person does

function open(id: string): void {
  const tile = tiles.get(id);
  if (!tile) return;
  focus.open(tile);
  focus.showHeading();
  remember(id);
}

const remember = (id: string | null): void => history.replaceState(null, "", id === null ? location.pathname : `#${id}`);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") focus.close();
});
byId("add-first").addEventListener("click", () => form.show(true));

// ---- what is told in words

function summarise(): void {
  const kinds = new Map<keyof typeof text.feed_states, number>();
  for (const tile of tiles.values()) {
    const kind = kindOf(tile.condition);
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  const parts = [...kinds].map(([kind, n]) => `${n} ${text.feed_states[kind].toLowerCase()}`);
  byId("summary").textContent = tiles.size ? `${fill(tiles.size === 1 ? text.wall.one_camera : text.wall.cameras, { n: tiles.size })} ${parts.join(", ")}.` : "";
}

function count(feeds: Set<string>, n: number): void {
  for (const [id, tile] of tiles) tile.alerting = feeds.has(id);
  document.title = `${n ? `(${n}) ` : ""}${text.wall.title} · ${text.shell.title}`;
  document.querySelector(".wall-columns")?.classList.toggle("has-alerts", n > 0);
}

function tellLink(): void {
  const chip = byId("link");
  const word = text.wall_link[link.name];
  if (chip.dataset.state !== link.name) {
    if (link.name !== "connecting" || chip.dataset.state !== undefined) say(word);
    dress(chip, LINK_LOOKS[link.name], word, link.name);
    byId("tiles").classList.toggle("stale", link.name === "waiting" || link.name === "refused");
    if (link.name === "refused") trouble(link.problem);
  }
  const left = link.name === "waiting" ? Math.max(Math.ceil((link.retryAt - performance.now()) / 1000), 0) : null;
  byId("link-why").textContent = link.name === "waiting" ? `${link.problem.status ? link.problem.detail : ""} ${fill(text.common.trying_again, { n: left ?? 0 })}`.trim() : "";
}

function trouble(error: unknown): void {
  if (error === null) return byId("trouble").replaceChildren();
  if (!(error instanceof Problem)) throw error;
  byId("trouble").replaceChildren(problemCard(error));
}

// ---- as time goes by

setInterval(() => {
  if (document.hidden) return;
  for (const tile of tiles.values()) if (tile.seen) tile.draw();
  focus.draw();
  tellLink();
}, DRAW_MS);
setInterval(() => link.name === "open" && void refresh(), LIST_MS);

// Stills of tiles come one after the other: a browser has six connections to a host, and they are not what is urgent.
async function refreshStills(): Promise<never> {
  for (;;) {
    const first = document.hidden || link.name !== "open" ? null : dueNow();
    if (first) await first.refresh();
    else await new Promise((resolve) => setTimeout(resolve, STILL_MS));
  }
}

function dueNow(): Tile | null {
  const due = [...tiles.values()].filter((tile) => tile.due <= performance.now());
  return due.reduce<Tile | null>((first, tile) => (first === null || tile.due < first.due ? tile : first), null);
}

void refreshStills();
