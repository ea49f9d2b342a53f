// Sign-in: a key goes to the service once, and the browser keeps a cookie that no script can read.

import { byId } from "../dom";
import { holds } from "../remembered";
import { fill, text } from "../text";

const led = new URLSearchParams(location.search).get("next");
const asked = new URL(led ?? "/", location.origin);
// A path that begins with two slashes would name another host.
const next = asked.origin === location.origin ? asked.pathname.replace(/^\/+/, "/") : "/";
const key = byId<HTMLInputElement>("key");
const trouble = byId("trouble");

const issuer = document.querySelector<HTMLAnchorElement>("#issuer");
if (issuer) issuer.search = new URLSearchParams({ next }).toString();
const session = await fetch("/v1/me").catch(() => null);
byId("sign-out").hidden = !session?.ok;
if (led !== null && session?.status === 401) byId("led-here").textContent = [text.sign_in.ended, holds("sessionStorage", "draft/") && text.sign_in.kept].filter(Boolean).join(" ");

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ key: key.value.trim() });
  const answer = await fetch("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  if (answer?.ok) return location.assign(next);
  const problem = await answer?.json().catch(() => null);
  trouble.textContent = problem ? fill(text.sign_in.refused, problem) : text.common.no_answer;
  key.select();
});

byId("sign-out").addEventListener("click", async () => {
  await fetch("/v1/session", { method: "DELETE" });
  location.assign("/sign-in");
});
