// The page of videos: its parts are made and tied together here. The address says what is open; everything comes from /v1.

import { say } from "../dom";
import { named, text } from "../text";
import type { Analysis } from "../wire";
import { AddressField } from "../videos/address";
import { Following } from "../videos/following";
import { VideoList } from "../videos/list";
import { Routes } from "../videos/routes";
import { Shown } from "../videos/shown";
import { Transfers } from "../videos/transfers";
import { Files, watchDrops } from "../videos/upload";

const TYPED = ["INPUT", "SELECT", "TEXTAREA"];
const PRESSED = ["BUTTON", "A", "SUMMARY"];

const shown = new Shown(() => {
  routes.go("/");
  void list.refresh();
});
const list = new VideoList(follow);
const following = new Following({
  changed: (id, changes) => {
    list.update(id, changes);
    shown.update(id, changes);
  },
  ended: (analysis) => {
    say(`${analysis.filename ?? text.videos.the_video}: ${outcome(analysis)}`);
    void list.refresh();
    if (shown.id === analysis.id) void shown.open(analysis.id);
  },
  lost: (id) => shown.lost(id),
  gone: (id) => {
    shown.gone(id);
    void list.refresh();
  },
});
const routes = new Routes((id) => {
  list.show(id);
  void shown.open(id).then(follow);
});
const transfers = new Transfers((analysis, alone) => {
  void list.refresh();
  if (alone) routes.go(`/analyses/${analysis.id}`);
});
const files = new Files(transfers);
const address = new AddressField(transfers);

// The one that is open first, then those that have waited longest.
function follow(): void {
  const running = list.items.filter((one) => one.status === "running" || one.status === "queued").map((one) => one.id);
  following.want([...(shown.running ? [shown.running] : []), ...running.reverse()]);
}

const outcome = (analysis: Analysis): string => analysis.sentence ?? analysis.problem?.title ?? named(text.states, analysis.status);

watchDrops((dropped) => files.take(dropped), (dropped) => {
  if (!address.offer(dropped)) say(text.videos.not_dropped);
});
document.addEventListener("paste", (event) => {
  const pasted = [...(event.clipboardData?.files ?? [])];
  if (pasted.length) files.take(pasted);
});
document.addEventListener("keydown", (event) => {
  const { tagName } = event.target as Element;
  if (TYPED.includes(tagName) || (event.key === " " && PRESSED.includes(tagName))) return;
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey) {
    list.focusSearch();
    event.preventDefault();
  } else if (shown.onKey(event)) event.preventDefault();
});
void list.load();
routes.route();
