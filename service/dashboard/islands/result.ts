// One finished analysis: its JSON and timeline come in, the page's right side goes out: sentence, player, lanes, coverage, faces, facts.

import { chip, h } from "./dom";
import { coverage } from "./result/coverage";
import { evidence } from "./result/evidence";
import { factsCard } from "./result/facts";
import { faces, segments } from "./result/faces";
import { helpDialog } from "./result/help";
import { measure } from "./result/measure";
import { Player } from "./result/player";
import { Source } from "./result/source";
import { scoreTable } from "./result/table";
import { TimelineView, ZOOM } from "./result/timeline";
import { text } from "./text";
import type { Analysis, Result } from "./wire";

export interface ShownResult {
  element: HTMLElement;
  onKey(event: KeyboardEvent): boolean;
  close(): void;
}

export async function showResult(analysis: Analysis, { onDelete }: { onDelete: () => void }): Promise<ShownResult> {
  const { result } = analysis;
  if (!result) throw new Error("the analysis has no result");
  const source = await Source.of(analysis.links.timeline, result.tracks.length);
  const player = new Player(analysis, result);
  const view = new TimelineView(source, result, (t) => player.seek(t));
  const help = helpDialog();
  const show = (t: number): void => {
    view.show(t);
    const shown = result.tracks.flatMap(({ id }) => {
      const row = source.at(id, t);
      return row ? [{ track: id, row }] : [];
    });
    player.draw(shown, source.threshold, view.selected);
  };
  player.onTime = show;
  view.onSelect = () => show(view.t);
  const go = (t: number, track?: number): void => {
    if (track !== undefined) view.select(track);
    player.seek(t);
  };
  const element = h(
    "article",
    { class: `result ${result.verdict}` },
    head(analysis, result, onDelete),
    h("section", { class: "card stage", "aria-label": text.result.stage }, player.element, view.element, keys(() => help.showModal())),
    coverage(result),
    segments(result, go),
    evidence(result, source, go),
    faces(analysis, result, go),
    scoreTable(analysis, source, () => view.t),
    factsCard(analysis, result),
    help,
  );
  return {
    element,
    onKey: (event) => onKey(event, player, view, help),
    close: () => {
      player.close();
      view.close();
    },
  };
}

function head(analysis: Analysis, result: Result, onDelete: () => void): HTMLElement {
  const { links } = analysis;
  const aside = { class: "quiet", target: "_blank", rel: "noopener" };
  return h(
    "header",
    { class: "verdict" },
    h("p", { class: "file" }, chip(analysis), h("span", { class: "ellipsis" }, analysis.filename ?? analysis.id)),
    h("h1", {}, result.sentence),
    measure(result),
    result.warnings.length ? h("ul", { class: "warnings" }, result.warnings.map((one) => h("li", {}, one.detail))) : null,
    h("nav", { class: "actions", "aria-label": text.result.actions },
      h("a", { class: "button", href: links.pack, download: "" }, text.result.pack),
      h("a", { ...aside, href: links.report }, text.result.report),
      h("a", { ...aside, href: links.self }, "JSON"),
      h("a", { class: "quiet", href: `${links.timeline}?format=csv`, download: `${analysis.id}.csv` }, "CSV"),
      h("a", { ...aside, href: links.plot }, text.result.picture),
      h("button", { type: "button", class: "quiet danger", onclick: onDelete }, text.result.delete)),
  );
}

const keys = (onHelp: () => void): HTMLElement =>
  h("p", { class: "keys" }, h("kbd", {}, "space"), ` ${text.keyboard.play}  `, h("kbd", {}, "←"), h("kbd", {}, "→"), ` ${text.keyboard.frame}  `,
    h("kbd", {}, "N"), h("kbd", {}, "P"), ` ${text.keyboard.segment}  `,
    h("button", { type: "button", class: "link", onclick: onHelp }, h("kbd", {}, "?"), ` ${text.keyboard.title}`));

function onKey(event: KeyboardEvent, player: Player, view: TimelineView, help: HTMLDialogElement): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const key = event.key.toLowerCase();
  if (key === " ") player.toggle();
  else if (key === "arrowright") view.step(1);
  else if (key === "arrowleft") view.step(-1);
  else if (key === "+" || key === "=") view.zoom(ZOOM);
  else if (key === "-") view.zoom(1 / ZOOM);
  else if (key === "0") view.zoom(0);
  else if (key === "n" || key === "p") jump(key === "n", player, view);
  else if (key === "?") help.showModal();
  else return false;
  return true;
}

// To the beginning of the next segment or the one before; beyond the last one comes the first.
function jump(forward: boolean, player: Player, view: TimelineView): void {
  const starts = [...new Set(view.result.segments.map((segment) => segment.start.t))].sort((a, b) => a - b);
  const next = forward ? (starts.find((t) => t > view.t + 0.02) ?? starts[0]) : (starts.findLast((t) => t < view.t - 0.02) ?? starts.at(-1));
  if (next !== undefined) player.seek(next);
}
