// Sign-in: a key goes to the service once, and the browser keeps a cookie that no script can read.

const $ = (id) => document.getElementById(id);
const asked = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
const next = asked.origin === location.origin ? asked.pathname : "/";

const session = await fetch("/v1/session").catch(() => null);
$("sign-out").hidden = !session?.ok;

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ key: $("key").value.trim() });
  const answer = await fetch("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  if (answer?.ok) return location.assign(next);
  const problem = await answer?.json().catch(() => null);
  $("trouble").textContent = problem ? `${problem.detail} Got ${problem.got}.` : "The service does not answer.";
  $("key").select();
});

$("sign-out").addEventListener("click", async () => {
  await fetch("/v1/session", { method: "DELETE" });
  location.assign("/sign-in");
});
