// The page: the address and the reader's actions come in, the list on the left and one analysis on the right go out.

import { Problem, advice, ask, follow, upload } from "./api.js";
import { ago, bytes, chip, clock, h, probability, say } from "./dom.js";
import { showResult } from "./result.js";

const FOLLOWED = 3; // A browser opens six connections to one host; event streams must leave room for the rest.
const $ = (id) => document.getElementById(id);
const state = { items: [], next: null, open: null, shown: null, stops: new Map(), stopOpen: null, ticket: 0 };

// ---- the list

async function loadList({ older = false } = {}) {
  const query = new URLSearchParams({ limit: "25" });
  if ($("search").value.trim()) query.set("q", $("search").value.trim());
  if ($("filter").value) query.set("verdict", $("filter").value);
  if (older && state.next) query.set("cursor", state.next);
  try {
    const page = await ask(`/v1/analyses?${query}`);
    state.items = older ? [...state.items, ...page.items] : page.items;
    state.next = page.next;
    drawList();
  } catch (problem) {
    trouble(problem);
  }
}

function drawList() {
  $("list").replaceChildren(...state.items.map(item));
  if (!state.items.length) {
    const filtered = $("search").value || $("filter").value;
    $("list").append(h("li", { class: "nothing" }, filtered ? "Nothing matches." : "Nothing here yet."));
  }
  $("more").hidden = !state.next;
  followRunning();
}

function item(analysis) {
  const link = h("a", { href: `/analyses/${analysis.id}`, "data-route": true, "aria-current": analysis.id === state.open && "page" },
    h("span", { class: "item-name ellipsis" }, analysis.filename ?? analysis.external_id ?? "unnamed video"),
    h("span", { class: "item-line" }, chip(analysis), h("span", { class: "item-when" },
      analysis.status === "succeeded" && analysis.p !== null ? `p ${probability(analysis.p)} · ` : "", ago(analysis.created_at))));
  if (analysis.status === "running") link.append(progressBar(analysis.progress));
  return h("li", { "data-id": analysis.id }, link);
}

function progressBar(progress) {
  const bar = h("progress", { max: 1, "aria-label": "Analysis" });
  if (progress?.duration_s) bar.value = Math.min(progress.media_s / progress.duration_s, 1);
  return bar;
}

function followRunning() {
  const running = state.items.filter((one) => one.status === "running" || one.status === "queued").slice(-FOLLOWED).map((one) => one.id);
  for (const [id, stop] of state.stops) {
    if (running.includes(id)) continue;
    stop();
    state.stops.delete(id);
  }
  for (const id of running) {
    if (state.stops.has(id)) continue;
    const update = (changes) => {
      const found = state.items.find((one) => one.id === id);
      if (!found) return;
      const shown = document.querySelector(`#list [data-id="${id}"]`);
      const bar = shown?.querySelector("progress");
      const same = found.status === (changes.status ?? found.status);
      Object.assign(found, changes);
      // In place while only the progress changes: a link that is replaced ten times a second cannot be clicked.
      if (bar && same) bar.replaceWith(progressBar(found.progress));
      else shown?.replaceWith(item(found));
      if (state.open === id) showRunning(found);
    };
    state.stops.set(id, follow(id, {
      onState: update,
      onProgress: (progress) => update({ progress, status: "running" }),
      onEnd: (analysis) => {
        state.stops.delete(id);
        say(`${analysis.filename ?? "The video"}: ${analysis.sentence ?? analysis.problem?.title ?? analysis.status}`);
        loadList();
        if (state.open === id) open(id);
      },
      onGone: () => state.stops.delete(id),
    }));
  }
}

// ---- the right side

async function open(id) {
  const ticket = ++state.ticket;
  state.open = id;
  state.shown?.close?.();
  state.shown = null;
  state.stopOpen?.();
  state.stopOpen = null;
  for (const link of document.querySelectorAll("#list a")) {
    if (link.pathname === `/analyses/${id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!id) {
    document.title = "Undercurrent";
    $("view").replaceChildren($("welcome").content.cloneNode(true));
    return;
  }
  try {
    const analysis = await ask(`/v1/analyses/${id}`);
    if (ticket !== state.ticket) return;
    document.title = `${analysis.filename ?? analysis.id} · Undercurrent`;
    if (analysis.status === "succeeded") {
      const shown = await showResult(analysis, { onDelete: () => remove(analysis) });
      if (ticket !== state.ticket) return shown.close();
      state.shown = shown;
      $("view").replaceChildren(shown.element);
    } else if (analysis.status === "queued" || analysis.status === "running") {
      showRunning(analysis);
      if (!state.stops.has(id)) {
        state.stopOpen = follow(id, { onProgress: (progress) => showRunning({ ...analysis, status: "running", progress }), onEnd: () => open(id) });
      }
    } else {
      showEnded(analysis);
    }
  } catch (problem) {
    if (ticket === state.ticket) $("view").replaceChildren(problemCard(problem));
  }
}

function showRunning(analysis) {
  if (analysis.status !== "queued" && analysis.status !== "running") return;
  const { progress } = analysis;
  const line = progress
    ? `${clock(progress.media_s)}${progress.duration_s ? ` of ${clock(progress.duration_s)}` : ""} looked at, ${progress.frames_analysed} frames, ${progress.faces} ${progress.faces === 1 ? "face" : "faces"}`
    : analysis.status === "queued" ? "It waits for its turn." : "Opening the video.";
  const card = $("view").querySelector(`.underway[data-id="${analysis.id}"]`);
  if (card) {
    // Changed in place: a button that is replaced ten times a second cannot be clicked.
    card.querySelector(".line").textContent = line;
    card.querySelector("progress").replaceWith(progressBar(progress));
    card.querySelector(".chip").replaceWith(chip(analysis));
    return;
  }
  $("view").replaceChildren(h("section", { class: "underway card", "data-id": analysis.id },
    h("p", { class: "file" }, chip(analysis), h("span", { class: "ellipsis" }, analysis.filename ?? analysis.id)),
    h("h1", {}, "Following the faces through time"),
    progressBar(progress),
    h("p", { class: "line" }, line),
    h("button", { type: "button", class: "quiet", onclick: () => act(`/v1/analyses/${analysis.id}/cancel`, "POST") }, "Stop")));
}

function showEnded(analysis) {
  const name = h("p", { class: "file" }, chip(analysis), h("span", { class: "ellipsis" }, analysis.filename ?? analysis.id));
  const tools = h("p", { class: "actions" }, h("button", { type: "button", class: "quiet danger", onclick: () => remove(analysis) }, "Delete"));
  if (analysis.problem) $("view").replaceChildren(h("section", {}, name, problemCard(new Problem(analysis.problem)), tools));
  else $("view").replaceChildren(h("section", { class: "card" }, name, h("h1", {}, "It was stopped before its end"), h("p", {}, "Upload the video again to have it judged."), tools));
}

async function act(path, method) {
  try {
    return await ask(path, { method });
  } catch (problem) {
    trouble(problem);
    return null;
  }
}

async function remove(analysis) {
  if (!window.confirm(`Delete ${analysis.filename ?? "this analysis"}, its video and its evidence?`)) return;
  try {
    await ask(analysis.links.self, { method: "DELETE" });
    go("/");
    loadList();
    say("Deleted.");
  } catch (problem) {
    trouble(problem);
  }
}

// ---- trouble

function problemCard(problem) {
  const known = problem instanceof Problem ? problem : new Problem({ title: "The page failed", detail: String(problem) });
  const hint = advice(known);
  return h("div", { class: "problem" },
    h("h2", {}, known.title), h("p", {}, known.detail),
    known.expected && h("p", { class: "fine" }, `Expected ${known.expected}; got ${known.got}.`),
    hint && h("p", { class: "hint" }, hint),
    known.request_id && h("p", { class: "fine" }, `Request ${known.request_id}`));
}

function trouble(problem) {
  $("trouble").replaceChildren(...(problem ? [problemCard(problem), h("button", { type: "button", class: "quiet", onclick: () => trouble(null) }, "Dismiss")] : []));
}

// ---- upload

async function send(file) {
  if (!file) return;
  trouble(null);
  const most = Number(document.body.dataset.maxUploadBytes);
  if (file.size > most) {
    trouble(new Problem({ type: "urn:undercurrent:problem:upload-too-large", title: "The upload exceeds the limit", detail: `${file.name} has ${bytes(file.size)}; this service takes ${bytes(most)}.` }));
    return;
  }
  $("upload").hidden = false;
  $("upload-name").textContent = file.name;
  const { done, stop } = upload(file, (share) => {
    $("upload-bar").value = share;
    $("upload-share").textContent = share < 1 ? ` ${Math.floor(share * 100)} %` : " checking";
  });
  $("upload-stop").onclick = stop;
  try {
    const analysis = await done;
    say(`${file.name} was uploaded.`);
    await loadList();
    go(`/analyses/${analysis.id}`);
  } catch (problem) {
    if (problem) trouble(problem);
  } finally {
    $("upload").hidden = true;
    $("upload-bar").value = 0;
    $("file").value = "";
  }
}

// ---- wiring

function go(path) {
  if (location.pathname !== path) history.pushState(null, "", path);
  route();
}

function route() {
  open(location.pathname.match(/^\/analyses\/([0-9a-f-]{36})$/)?.[1] ?? null);
}

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(loadList, 250);
});
$("filter").addEventListener("change", () => loadList());
$("more").addEventListener("click", () => loadList({ older: true }));
$("file").addEventListener("change", (event) => send(event.target.files[0]));
$("drop").addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") send(event.dataTransfer.files[0]);
  });
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-route]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.pathname);
});
document.addEventListener("keydown", (event) => {
  const tag = event.target.tagName;
  if (["INPUT", "SELECT", "TEXTAREA"].includes(tag) || (event.key === " " && ["BUTTON", "A", "SUMMARY"].includes(tag))) return;
  if (state.shown?.onKey(event)) event.preventDefault();
});
window.addEventListener("popstate", route);
loadList();
route();
