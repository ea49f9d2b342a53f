// The webcam's page: the reader's choices come in; camera, sender, connection and what is drawn are brought together until the verdict.

import { h, say } from "../dom.js";
import { Trouble, cameras, openCamera } from "./camera.js";
import { Connection } from "./connection.js";
import { Pictures } from "./pictures.js";
import { Readings } from "./readings.js";
import { Recording } from "./recording.js";
import { ScoreLine } from "./score_line.js";
import { verdictCard } from "./verdict.js";
import { View } from "./view.js";
import { CLOSE } from "./wire.js";
import { gap } from "./words.js";

const AGAIN_MS = 1000; // Before a new stream after one that ended with its service.
const $ = (id) => document.getElementById(id);
const readings = new Readings();
const line = new ScoreLine($("line"));
const view = new View($("picture"), $("boxes"));
const run = { camera: null, connection: null, sender: null, stopping: false, told: null };

// ---- from start to stop

async function start() {
  trouble(null);
  $("verdict").hidden = true;
  readings.state("asking", { why: "Your browser may ask you." });
  button("Starting", { busy: true });
  try {
    await open($("choice").value);
  } catch (error) {
    off();
    trouble(error);
    return;
  }
  button("Stop");
  $("way").disabled = true;
  $("screen").classList.remove("idle");
  begin();
  listCameras();
}

async function open(id) {
  run.camera = await openCamera($("camera"), id, { onPicture: see, onGone: () => stop("The camera went away.") });
}

// A stream of its own: the first, or the next after one that could not be gone on with.
function begin(delayMs = 0) {
  const way = $("way").value === "recording" ? Recording : Pictures;
  const sender = new way({ stream: run.camera.stream, onSkip: (cause) => readings.missed(cause, 1), onFull: () => stop("The connection was away for too long.") });
  Object.assign(run, { stopping: false, sender, told: null });
  run.connection = new Connection(way.start, { onEvent: hear, onState: connected, onClosed: closed, delayMs });
  if (hidden()) run.connection.pause();
}

async function stop(why = "") {
  if (run.stopping || !run.connection) return;
  run.stopping = true;
  readings.state("stopping", { why: why || "What came is judged to its end." });
  if (why) readings.note(null, why, "warn");
  button("Do not wait");
  const { sender, connection } = run;
  await sender.end();
  if (run.connection === connection) connection.stop();
}

function off() {
  run.camera?.close();
  Object.assign(run, { camera: null, connection: null, sender: null, stopping: false, told: null });
  view.clear();
  $("screen").classList.add("idle");
  $("way").disabled = $("choice").disabled = false;
  $("hint").hidden = true;
  button("Start the camera");
  readings.state("off");
}

// Without waiting for a verdict.
function leave() {
  run.connection?.close();
  off();
}

// ---- what comes

function see(picture) {
  if (!run.sender) return;
  view.see(picture.video, run.sender.at(picture));
  run.sender.see(picture);
}

function hear(event) {
  const { sender } = run;
  if (event.type === "ready") {
    for (const part of [view, line, readings]) part.begin(event.threshold);
    sender.begin(run.connection, event);
    if ($("way").value === "recording") $("choice").disabled = true;
  } else if (event.type === "score") {
    const [numerator, denominator] = event.at.time_base;
    view.look((event.stamp * 1e6 * numerator) / denominator, event.faces.map((row) => ({ ...row, box: row.box.map((edge) => edge / sender.scale) })));
    line.look(event);
    readings.look(event, event.capture_epoch_us ? (performance.timeOrigin + performance.now()) / 1000 - event.capture_epoch_us / 1e6 : event.latency_s);
  } else if (event.type === "face") readings.face(event);
  else if (event.type === "gap") {
    line.gap(event, gap(event));
    readings.gap(event);
  } else if (event.type === "drop") readings.missed(event.cause, event.n);
}

function connected(name, how) {
  // An attempt among many is not worth a word of its own.
  const again = name === "connecting" && run.told?.name === "waiting";
  run.told = again ? { ...run.told, how: { ...run.told.how, retryAt: null } } : { name, how };
  tellState();
}

function tellState() {
  if (run.stopping || !run.told) return;
  const { name, how } = run.told;
  if (hidden()) readings.state("away", { why: "This tab is hidden, so no pictures come." });
  else if (name === "connecting") readings.state("connecting");
  else if (how.busy) readings.state("busy", { why: "It has as many streams as it may.", ...how });
  else if (name === "waiting") readings.state("waiting", { why: how.kept ? "What was seen so far is kept for a minute." : "The service does not answer.", ...how });
  else readings.state("running");
}

async function closed({ code, error, end }) {
  const { sender } = run;
  const restarts = end?.reason === "draining" || code === CLOSE.draining;
  await sender.end();
  if (run.sender !== sender) return;
  if (end) {
    $("verdict").replaceChildren(verdictCard(end, readings.left));
    $("verdict").hidden = false;
    say(end.verdict ? end.verdict.sentence : "There is no verdict.");
  }
  if (!run.stopping && (restarts || code === CLOSE.unknownSession)) {
    readings.note(null, restarts ? "the service restarted: a new stream begins" : "the service forgot the stream: a new one begins", "warn");
    begin(AGAIN_MS);
    return;
  }
  off();
  if (error && end?.reason !== "draining") trouble(new Trouble(error.title, error.detail, error.retryable ? "Start again." : null));
  if (end) $("verdict").querySelector(".sentence").focus();
}

// ---- hidden and seen again

// A recording goes on without being seen; pictures are only had of what is.
const hidden = () => document.hidden && !(run.sender instanceof Recording);

document.addEventListener("visibilitychange", () => {
  if (!run.connection || run.sender instanceof Recording) return;
  if (document.hidden) run.connection.pause();
  else run.connection.resume();
  tellState();
});
window.addEventListener("pagehide", leave);

// ---- choices

async function listCameras() {
  const found = await cameras();
  if (!found.length) return;
  const chosen = run.camera?.id || $("choice").value;
  $("choice").replaceChildren(...found.map(({ id, name }) => h("option", { value: id, selected: id === chosen }, name)));
}

$("choice").addEventListener("change", async () => {
  if (!run.camera) return;
  run.camera.close();
  view.clear();
  try {
    await open($("choice").value);
    run.sender?.cut();
  } catch (error) {
    trouble(error);
    stop("The other camera cannot be opened.");
  }
});
navigator.mediaDevices?.addEventListener("devicechange", listCameras);

function mirror() {
  const { checked } = $("mirrored");
  view.mirrored = checked;
  $("screen").classList.toggle("mirrored", checked);
}
$("mirrored").addEventListener("change", mirror);
mirror();

$("toggle").addEventListener("click", () => {
  if ($("toggle").getAttribute("aria-disabled") === "true") return;
  if (!run.camera) start();
  else if (!run.stopping) stop();
  else leave();
});
$("way").querySelector('[value="recording"]').disabled = !Recording.supported;

// Busy, it does nothing; disabled, it would lose the keyboard's focus.
function button(words, { busy = false } = {}) {
  $("toggle").textContent = words;
  $("toggle").setAttribute("aria-disabled", busy);
}

function trouble(error) {
  if (error && !(error instanceof Trouble)) console.error(error);
  $("trouble").replaceChildren(...(error
    ? [h("div", { class: "problem" }, h("h2", {}, error.title ?? "The page failed"), h("p", {}, error.detail ?? String(error)), error.hint && h("p", { class: "hint" }, error.hint))]
    : []));
}

off();
$("toggle").disabled = false;
cameras().then((found) => found.some(({ name }) => name) && listCameras());
