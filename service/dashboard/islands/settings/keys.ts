// API keys: the keys of this tenant are asked for and listed, made (`key_form.ts`) and revoked.

import { Problem, ask, slug } from "../api";
import { h, say } from "../dom";
import { fill, text } from "../text";
import { hush, tell } from "../trouble";
import { confirmed, showSecret } from "./dialog";
import { keyForm } from "./key_form";
import { Paged } from "./paged";
import { Table } from "./table";
import { ends, moment } from "./words";
import type { Key, Me } from "./wire";

const CHIPS: Record<Key["state"], [string, string]> = { valid: ["running", "○"], expired: ["", "–"], revoked: ["", "×"] };

export function keys(place: HTMLElement, me: Me): void {
  const table = new Table<Key>(text.keys.title, [
    { head: text.keys.name, cell: (key) => h("div", { class: "stack" }, h("b", {}, h("bdi", {}, key.name)), h("code", {}, key.id)) },
    { head: text.keys.may, cell: (key) => h("ul", { class: "scopes" }, key.scopes.map((scope) => h("li", {}, h("code", {}, scope)))) },
    { head: text.keys.made, cell: (key) => moment(key.created_at) },
    { head: text.keys.ends, cell: (key) => (key.revoked_at ? moment(key.revoked_at) : ends(key.expires_at)) },
    { head: text.keys.state, cell: chip },
    { head: text.keys.revoke, quiet: true, cell: (key) => key.state === "valid" ? h("button", {
      type: "button", class: "quiet danger", "aria-label": fill(text.keys.revoke_one, { name: key.name }), onclick: () => void revoke(key) }, text.keys.revoke) : "" },
  ]);
  const list = new Paged(table, () => "/v1/keys?limit=25", text.keys.none);
  const form = keyForm(async (key) => {
    table.put(key);
    list.settle();
    await showSecret({ title: fill(text.keys.secret_title, { name: key.name }), says: text.keys.secret_says, secret: key.secret });
    say(fill(text.keys.was_made, { name: key.name }));
  });
  place.append(
    h("section", { class: "card" }, h("div", { class: "split" }, h("h2", {}, text.keys.title), form.opener), h("p", { class: "fine" }, text.keys.lead), form.element, list.element));
  void list.load();

  async function revoke(key: Key, lastAdmin = false): Promise<void> {
    const own = key.id === me.key_id ? [text.keys.own] : [];
    const says = lastAdmin ? [text.keys.last_admin] : [text.keys.revoke_says, ...own];
    if (!(await confirmed({ title: fill(text.keys.revoke_title, { name: key.name }), says, act: text.keys.revoke }))) return;
    try {
      await ask<void>(`/v1/keys/${key.id}${lastAdmin ? "?last_admin=true" : ""}`, { method: "DELETE" });
      hush("revoke");
      table.put(await ask<Key>(`/v1/keys/${key.id}`));
      say(fill(text.keys.was_revoked, { name: key.name }));
    } catch (problem) {
      if (!lastAdmin && problem instanceof Problem && slug(problem) === "last-admin-key") await revoke(key, true);
      else tell(problem, { kind: "revoke", again: () => void revoke(key, lastAdmin) });
    }
  }
}

function chip(key: Key): HTMLElement {
  const [kind, glyph] = CHIPS[key.state];
  return h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, glyph), ` ${text.keys[key.state]}`);
}
