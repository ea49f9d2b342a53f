// The page of who did what: filters are read from the address, rows asked for page by page, and the same rows given as a table of CSV.

import { ask } from "../api";
import { byId, h } from "../dom";
import { begin } from "../settings/access";
import { Paged } from "../settings/paged";
import { Table } from "../settings/table";
import { moment } from "../settings/words";
import { text } from "../text";
import { hush, tell } from "../trouble";

interface Entry {
  id: string;
  at: string;
  key_id: string | null;
  name: string | null;
  action: string;
  subject: string;
  request_id: string | null;
}

const TYPING_MS = 300;
const place = byId("audit");
const words = text.actions as Record<string, string>;

void begin(place, "admin", () => {
  const given = new URLSearchParams(location.search);
  const who = h("input", { type: "search", id: "who", autocomplete: "off", maxlength: 320, value: given.get("who") });
  const what = h("select", { id: "what" }, h("option", { value: "" }, text.audit.any_action), groups(given.get("action")));
  const from = h("input", { type: "date", id: "from", value: given.get("since") });
  const table = new Table<Entry>(text.audit.title, [
    { head: text.audit.when, cell: (one) => moment(one.at, { seconds: true }) },
    { head: text.audit.who, cell: person },
    { head: text.audit.what, cell: (one) => h("div", { class: "stack" }, h("b", {}, words[one.action] ?? one.action), h("code", {}, one.action)) },
    { head: text.audit.subject, cell: subject },
    { head: text.audit.request, cell: (one) => (one.request_id ? h("code", {}, one.request_id) : text.audit.no_request) },
  ]);
  const list = new Paged(table, () => `/v1/audit?${query()}`, text.audit.none);
  const download = h("a", { class: "quiet", href: "#", onclick: (event: Event) => void save(event) }, text.audit.download);
  place.append(
    h("form", { class: "card audit-filters", role: "search", "aria-label": text.audit.filters, onsubmit: (event: Event) => event.preventDefault(), onreset: () => setTimeout(changed) },
      label("who", text.audit.who, who), label("what", text.audit.what, what), label("from", text.audit.since, from),
      h("p", { class: "actions" }, h("button", { type: "reset", class: "quiet" }, text.audit.clear), download)),
    h("section", { class: "card", "aria-label": text.audit.title }, list.element));
  let typing = 0;
  who.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(changed, TYPING_MS);
  });
  for (const control of [what, from]) control.addEventListener("change", changed);
  changed();

  // The filters stand in the address, so that it can be kept and sent to somebody.
  function changed(): void {
    const kept = new URLSearchParams(Object.entries({ who: who.value.trim(), action: what.value, since: from.value }).filter(([, value]) => value));
    history.replaceState(null, "", kept.size ? `?${kept}` : location.pathname);
    download.href = `/v1/audit?${query("csv")}`;
    void list.load();
  }

  function query(format?: string): URLSearchParams {
    const asked = new URLSearchParams(format ? { format } : { limit: "50" });
    if (who.value.trim()) asked.set("who", who.value.trim());
    if (what.value) asked.set("action", what.value);
    // The first moment of that day, where the reader is.
    const at = new Date(`${from.value}T00:00:00`);
    if (!Number.isNaN(at.getTime())) asked.set("since", at.toISOString());
    return asked;
  }

  // A download that is refused would leave a problem in a file: so it is asked first whether the session still holds.
  async function save(event: Event): Promise<void> {
    event.preventDefault();
    try {
      await ask("/v1/me");
      hush("download");
      location.assign(download.href);
    } catch (problem) {
      tell(problem, { kind: "download" });
    }
  }
});

function label(id: string, says: string, control: HTMLElement): HTMLElement {
  return h("p", { class: "field" }, h("label", { for: id }, says), control);
}

// Actions by what they are done to, which is the first part of each code.
function groups(selected: string | null): HTMLElement[] {
  const kinds = new Map<string, string[]>();
  for (const code of Object.keys(words)) {
    const kind = code.split(".")[0] ?? code;
    kinds.set(kind, [...(kinds.get(kind) ?? []), code]);
  }
  const names = text.audit as Record<string, string>;
  return [...kinds].map(([kind, codes]) => h("optgroup", { label: names[`of_${kind}`] ?? kind },
    codes.map((code) => h("option", { value: code, selected: code === selected }, words[code] ?? code))));
}

function person({ name, key_id: id }: Entry): HTMLElement {
  if (id === null) return h("span", {}, text.audit.here);
  return h("div", { class: "stack" }, name && h("span", {}, h("bdi", {}, name)), h("code", {}, id));
}

function subject({ action, subject: id }: Entry): HTMLElement {
  const shown = h("code", {}, id);
  const linked = (action.startsWith("analysis.") && action !== "analysis.deleted" && action !== "analysis.expired") || action.startsWith("review.");
  return linked ? h("a", { href: `/analyses/${encodeURIComponent(id)}` }, shown) : shown;
}
