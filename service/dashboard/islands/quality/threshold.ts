// The threshold: what was reviewed proposes one for a wanted rate; whoever leads confirms it, or an earlier one again.

import { Problem, ask, askAgain, slug } from "../api";
import { h, say } from "../dom";
import { confirmed } from "../settings/dialog";
import { field } from "../settings/form";
import { Table } from "../settings/table";
import { moment, percent } from "../settings/words";
import { fill, text } from "../text";
import { problemCard } from "../trouble";
import { curve, shown } from "./curve";
import type { Effect, Proposal, Share, Threshold } from "./wire";

const PATH = "/v1/thresholds";
const RATES = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1];
const USUAL = 0.01;
const LONGEST_NOTE = 4000;
const words = text.quality.threshold;

interface Page {
  items: Threshold[];
  next: string | null;
}

type Row = Threshold & { id: string };

export function thresholdCard(): HTMLElement {
  const wanted = h("select", {}, RATES.map((rate) => h("option", { value: rate, selected: rate === USUAL }, percent(rate))));
  const proposal = h("div", { class: "proposal" });
  const told = h("div", { role: "status" });
  const versions = h("div", { class: "versions" });
  let etag: string | null = null;
  let turn = 0;
  wanted.addEventListener("change", () => void propose());
  void propose();
  void history();
  return h("section", { class: "card threshold" }, h("h2", {}, words.title), h("p", { class: "fine" }, words.hint),
    field("fpr", words.wanted, wanted), proposal, told, h("h3", {}, words.versions), versions);

  async function propose(): Promise<void> {
    const mine = (turn += 1);
    proposal.setAttribute("aria-busy", "true");
    try {
      const found = await ask<Proposal>(`/v1/reviews/thresholds?${new URLSearchParams({ fpr: wanted.value })}`);
      if (mine !== turn) return; // Another rate was chosen meanwhile.
      proposal.replaceChildren(...proposed(found));
      say(found.proposed ? "" : whyNot(found));
    } catch (problem) {
      if (mine === turn) proposal.replaceChildren(problemCard(problem, { again: () => void propose() }));
    } finally {
      if (mine === turn) proposal.removeAttribute("aria-busy");
    }
  }

  function proposed(found: Proposal): HTMLElement[] {
    const { proposed: next, left_out: out } = found;
    const note = fill(words.note_of, { rate: percent(found.fpr), n: found.genuine, m: found.manipulated });
    return [
      next ? h("p", {}, fill(words.proposal, { p: shown(next.threshold), rate: percent(found.fpr) })) : h("p", { class: "notice" }, whyNot(found)),
      effects(found),
      ...(found.genuine + found.manipulated ? [curve(found)] : []),
      h("p", { class: "fine" }, fill(words.rests_on, { n: found.genuine, m: found.manipulated, ...out })),
      ...(next ? [h("p", { class: "actions" }, h("button", { type: "button", class: "button", onclick: () =>
        void putInForce(next.threshold, found.fpr, next.threshold, note) }, words.confirm))] : []),
    ];
  }

  async function history(): Promise<void> {
    const table = new Table<Row>(words.versions, [
      { head: words.version, cell: ({ version }) => String(version) },
      { head: words.from, cell: ({ threshold, shipped }) => fill(shipped ? words.as_shipped : words.for_rate, { p: shown(threshold) }) },
      { head: words.rate, cell: ({ target_fpr: rate }) => percent(rate) },
      { head: words.who, cell: ({ author }) => author ?? words.nobody },
      { head: words.when, cell: ({ at }) => (at === null ? null : moment(at)) },
      { head: words.note, cell: ({ note }) => h("span", { class: "note" }, note ?? "") },
      { head: words.act, quiet: true, cell: (one) => again(one) },
    ]);
    const more = h("p", {});
    versions.replaceChildren(table.element, more);
    let newest: number | null = null;

    function again(one: Threshold): HTMLElement {
      if (one.version === newest) return h("b", {}, words.in_force);
      const [p, rate] = one.shipped ? [null, null] : [one.threshold, one.target_fpr];
      const use = (): void => void putInForce(p, rate, one.threshold, fill(words.note_again, { n: one.version }));
      return h("button", { type: "button", class: "quiet", "aria-label": fill(words.use_version, { n: one.version }), onclick: use }, words.use_again);
    }

    async function load(cursor: string | null): Promise<void> {
      try {
        const page = await ask<Page>(`${PATH}/versions${cursor ? `?${new URLSearchParams({ cursor })}` : ""}`);
        newest ??= page.items[0]?.version ?? null;
        table.add(page.items.map((one) => ({ ...one, id: String(one.version) })));
        more.replaceChildren(...(page.next ? [h("button", { type: "button", class: "quiet", onclick: () => void load(page.next) }, text.settings.older)] : []));
      } catch (problem) {
        more.replaceChildren(problemCard(problem, { again: () => void load(cursor) }));
      }
    }
    etag = (await askAgain<Threshold>(PATH, null).catch(() => null))?.etag ?? null;
    await load(null);
  }

  // `p` and `rate` null: the shipped one; `at` is where it lies, to be read.
  async function putInForce(p: number | null, rate: number | null, at: number, suggested: string): Promise<void> {
    const note = h("textarea", { rows: 3, maxlength: LONGEST_NOTE, required: true });
    note.value = suggested;
    const question = { title: fill(words.confirm_title, { p: shown(at) }), says: [words.confirm_says], act: words.confirm_act, more: field("note", words.why, note) };
    do {
      if (!(await confirmed(question))) return;
    } while (!note.value.trim());
    told.replaceChildren();
    try {
      const headers = { "Content-Type": "application/json", "If-Match": etag ?? "" };
      const kept = await ask<Threshold>(PATH, { method: "PUT", headers, body: JSON.stringify({ threshold: p, target_fpr: rate, note: note.value }) });
      const done = fill(words.saved, { n: kept.version });
      told.replaceChildren(h("p", {}, done));
      say(done);
    } catch (problem) {
      const theirs = problem instanceof Problem && slug(problem) === "threshold-changed";
      told.replaceChildren(theirs ? h("p", { class: "notice" }, words.changed) : problemCard(problem));
    }
    await Promise.all([propose(), history()]);
  }
}

const whyNot = ({ genuine, needed, fpr }: Proposal): string =>
  genuine < needed ? fill(words.too_few, { n: genuine, rate: percent(fpr), needed }) : words.nothing_above;

const range = ({ k, n, share, low, high }: Share): string =>
  share === null || low === null || high === null
    ? text.quality.none
    : fill(words.share, { share: percent(share), k, n, low: percent(low), high: percent(high) });

function effects({ present, proposed, present_version: version }: Proposal): HTMLElement {
  const table = new Table<Effect & { id: string }>(words.effects, [
    { head: words.which, cell: ({ id }) => id },
    { head: words.from, cell: (one) => shown(one.threshold) },
    { head: words.accused, cell: (one) => range(one.false_positives) },
    { head: words.missed, cell: (one) => range(one.misses) },
  ]);
  const now = { ...present, id: fill(words.present_is, { n: version }) };
  table.show(proposed ? [now, { ...proposed, id: words.proposed }] : [now]);
  return table.element;
}
