// The page of whoever leads reviewers: a period is read from the address, its numbers are asked for, threshold and policy stand below them.

import { ask } from "../api";
import { byId, h, say } from "../dom";
import { numbers } from "../quality/numbers";
import { policyCard } from "../quality/policy";
import { thresholdCard } from "../quality/threshold";
import type { Quality } from "../quality/wire";
import { begin } from "../settings/access";
import { fill, text } from "../text";
import { problemCard } from "../trouble";

const DAYS = [7, 28, 90, 365];
const USUAL = 28;
const place = byId("quality");

void begin(place, "reviews:lead", () => {
  const given = Number(new URLSearchParams(location.search).get("days"));
  const asked = DAYS.includes(given) ? given : USUAL;
  const choice = h("select", { id: "period" }, DAYS.map((n) => h("option", { value: n, selected: n === asked }, fill(text.quality.last_days, { n }))));
  const shown = h("div", { class: "section" });
  const span = h("p", { class: "fine" });
  let turn = 0;
  choice.addEventListener("change", () => {
    history.replaceState(null, "", `?days=${choice.value}`);
    void load();
  });
  place.append(h("div", { class: "card period" }, h("p", { class: "field" }, h("label", { for: "period" }, text.quality.period), choice), span), shown, thresholdCard(), policyCard());
  void load();

  async function load(): Promise<void> {
    const mine = (turn += 1);
    shown.setAttribute("aria-busy", "true");
    const until = new Date();
    const since = new Date(until.getTime() - Number(choice.value) * 86_400_000);
    try {
      const found = await ask<Quality>(`/v1/reviews/quality?${new URLSearchParams({ since: since.toISOString(), until: until.toISOString() })}`);
      if (mine !== turn) return; // Another period was chosen meanwhile.
      span.textContent = fill(text.quality.from_to, { from: since.toLocaleDateString(), to: until.toLocaleDateString() });
      shown.replaceChildren(...numbers(found));
      say(span.textContent);
    } catch (problem) {
      if (mine === turn) shown.replaceChildren(problemCard(problem, { again: () => void load() }));
    } finally {
      if (mine === turn) shown.removeAttribute("aria-busy");
    }
  }
});
