// The webcam's page: the reader's choices come in; camera, sender, connection and what is drawn are brought together until the verdict.

import { Problem, isFinal, refusalOf, signIn } from "../api";
import { byId, h, say } from "../dom";
import { type Camera, type Shot, Trouble, cameras, openCamera } from "../live/camera";
import { type Closed, Connection, type How, type LinkState } from "../live/connection";
import type { SessionEvent } from "../live/events";
import { Pictures } from "../live/pictures";
import { Readings } from "../live/readings";
import { Recording } from "../live/recording";
import { ScoreLine } from "../live/score_line";
import type { Sender } from "../live/sender";
import { verdictCard } from "../live/verdict";
import { View } from "../live/view";
import { CLOSE } from "../live/wire";
import { gap } from "../live/words";
import { may, me } from "../me";
import { text } from "../text";
import { problemCard, sentence } from "../trouble";
import type { Box } from "../wire";

const AGAIN_MS = 1000; // Before a new stream after one that ended with its service.
const video = byId<HTMLVideoElement>("camera");
const choice = byId<HTMLSelectElement>("choice");
const way = byId<HTMLSelectElement>("way");
const mirrored = byId<HTMLInputElement>("mirrored");
const toggle = byId<HTMLButtonElement>("toggle");
const readings = new Readings();
const line = new ScoreLine(byId("line"));
const view = new View(byId<HTMLCanvasElement>("picture"), document.querySelector<SVGSVGElement>("#boxes") as SVGSVGElement);

interface Run {
  camera: Camera | null;
  connection: Connection | null;
  sender: Sender | null;
  stopping: boolean;
  told: { name: LinkState; how: How } | null;
}

const NOTHING: Run = { camera: null, connection: null, sender: null, stopping: false, told: null };
const run: Run = { ...NOTHING };

// ---- from start to stop

async function start(): Promise<void> {
  trouble(null);
  byId("verdict").hidden = true;
  readings.state("asking", { why: text.live.may_ask });
  button(text.live.starting, { busy: true });
  try {
    await admitted();
    await open(choice.value);
  } catch (error) {
    off();
    trouble(error);
    return;
  }
  button(text.live.stop);
  way.disabled = true;
  byId("screen").classList.remove("idle");
  begin();
  listCameras();
}

// Nobody's camera is opened for a stream that would be refused for good; who is not signed in is led there.
async function admitted(): Promise<void> {
  if (may(await me(), "streams")) return;
  const refusal = await refusalOf("/v1/stream");
  if (refusal?.status === 401) signIn();
  if (refusal && isFinal(refusal)) throw refusal;
}

let wish = 0; // Of those for a camera only the newest counts: a browser may ask the reader for long, and the stream may end meanwhile.

// Whether the camera is there, and still wanted.
async function open(id: string): Promise<boolean> {
  const mine = ++wish;
  const wanted = (): boolean => mine === wish;
  try {
    const camera = await openCamera(video, id, { onPicture: see, onGone: () => stop(text.live.camera_gone) }, wanted);
    if (camera) run.camera = camera;
    return camera !== null;
  } catch (error) {
    if (wanted()) throw error;
    return false;
  }
}

// A stream of its own: the first, or the next after one that could not be gone on with.
function begin(delayMs = 0): void {
  if (!run.camera) return;
  const Way = way.value === "recording" ? Recording : Pictures;
  const sender = new Way({ stream: run.camera.stream, onSkip: (cause) => readings.missed(cause, 1), onFull: () => stop(text.live.away_too_long) });
  Object.assign(run, { stopping: false, sender, told: null });
  run.connection = new Connection(Way.start, { onEvent: hear, onState: connected, onClosed: closed, delayMs });
  if (hidden()) run.connection.pause();
}

async function stop(why = ""): Promise<void> {
  const { sender, connection } = run;
  if (run.stopping || !connection || !sender) return;
  run.stopping = true;
  readings.state("stopping", { why: why || text.live.judged_to_its_end });
  if (why) readings.note(null, why, "warn");
  button(text.live.do_not_wait);
  await sender.end();
  if (run.connection === connection) connection.stop();
}

function off(): void {
  wish += 1;
  run.camera?.close();
  Object.assign(run, NOTHING);
  view.clear();
  byId("screen").classList.add("idle");
  way.disabled = choice.disabled = false;
  byId("hint").hidden = true;
  button(text.live.start);
  readings.state("off");
}

// Without waiting for a verdict.
function leave(): void {
  run.connection?.close();
  off();
}

// ---- what comes

function see(picture: Shot): void {
  if (!run.sender) return;
  view.see(picture.video, run.sender.at(picture));
  run.sender.see(picture);
}

function hear(event: SessionEvent): void {
  const { sender, connection } = run;
  if (!sender || !connection) return;
  if (event.type === "ready") {
    for (const part of [view, line, readings]) part.begin(event.threshold);
    sender.begin(connection, event);
    if (way.value === "recording") choice.disabled = true;
  } else if (event.type === "score") {
    const [numerator, denominator] = event.at.time_base;
    view.look((event.stamp * 1e6 * numerator) / denominator, event.faces.map((row) => ({ ...row, box: row.box.map((edge) => edge / sender.scale) as Box })));
    line.look(event);
    readings.look(event, event.capture_epoch_us ? (performance.timeOrigin + performance.now()) / 1000 - event.capture_epoch_us / 1e6 : event.latency_s);
  } else if (event.type === "face") readings.face(event);
  else if (event.type === "gap") {
    line.gap(event, gap(event));
    readings.gap(event);
  } else if (event.type === "drop") readings.missed(event.cause, event.n);
}

function connected(name: LinkState, how: How): void {
  // An attempt among many is not worth a word of its own.
  const before = run.told;
  const again = name === "connecting" && before?.name === "waiting";
  run.told = again ? { ...before, how: { ...before.how, retryAt: null } } : { name, how };
  tellState();
}

function tellState(): void {
  if (run.stopping || !run.told) return;
  const { name, how } = run.told;
  const { retryAt } = how;
  if (hidden()) readings.state("away", { why: text.live.tab_hidden });
  else if (name === "connecting") readings.state("connecting");
  else if (how.busy) readings.state("busy", { why: how.problem ? sentence(how.problem) : text.live.as_many_as_may, retryAt });
  else if (name === "waiting") readings.state("waiting", { why: how.kept ? text.live.kept_for_a_minute : text.live.does_not_answer, retryAt });
  else readings.state("running");
}

async function closed({ code, error, end }: Closed): Promise<void> {
  const { sender } = run;
  const restarts = end?.reason === "draining" || code === CLOSE.draining;
  await sender?.end();
  if (run.sender !== sender) return;
  if (end) {
    byId("verdict").replaceChildren(verdictCard(end, readings.left));
    byId("verdict").hidden = false;
    say(end.verdict ? end.verdict.sentence : text.live.no_verdict_said);
  }
  if (!run.stopping && (restarts || code === CLOSE.unknownSession)) {
    readings.note(null, restarts ? text.live.restarted : text.live.forgot, "warn");
    begin(AGAIN_MS);
    return;
  }
  off();
  if (error instanceof Problem) trouble(error);
  else if (error && end?.reason !== "draining") trouble(new Trouble(error.title, error.detail, error.retryable ? text.live.start_again : undefined));
  if (end) byId("verdict").querySelector<HTMLElement>(".sentence")?.focus();
}

// ---- hidden and seen again

// A recording goes on without being seen; pictures are only had of what is.
const hidden = (): boolean => document.hidden && !(run.sender instanceof Recording);

document.addEventListener("visibilitychange", () => {
  if (!run.connection || run.sender instanceof Recording) return;
  if (document.hidden) run.connection.pause();
  else run.connection.resume();
  tellState();
});
window.addEventListener("pagehide", leave);

// ---- choices

async function listCameras(): Promise<void> {
  const found = await cameras();
  if (!found.length) return;
  const chosen = run.camera?.id || choice.value;
  choice.replaceChildren(...found.map(({ id, name }) => h("option", { value: id, selected: id === chosen }, name)));
}

choice.addEventListener("change", async () => {
  if (!run.camera) return;
  run.camera.close();
  view.clear();
  try {
    if (await open(choice.value)) run.sender?.cut();
  } catch (error) {
    trouble(error);
    stop(text.live.other_cannot_open);
  }
});
navigator.mediaDevices?.addEventListener("devicechange", listCameras);

function mirror(): void {
  view.mirrored = mirrored.checked;
  byId("screen").classList.toggle("mirrored", mirrored.checked);
}
mirrored.addEventListener("change", mirror);
mirror();

toggle.addEventListener("click", () => {
  if (toggle.getAttribute("aria-disabled") === "true") return;
  if (!run.camera) start();
  else if (!run.stopping) stop();
  else leave();
});
const recording = way.querySelector<HTMLOptionElement>('[value="recording"]');
if (recording) recording.disabled = !Recording.supported;

// Busy, it does nothing; disabled, it would lose the keyboard's focus.
function button(words: string, { busy = false } = {}): void {
  toggle.textContent = words;
  toggle.setAttribute("aria-disabled", String(busy));
}

function trouble(error: unknown): void {
  if (error === null) return byId("trouble").replaceChildren();
  byId("trouble").replaceChildren(problemCard(error));
}

off();
toggle.disabled = false;
listCameras();
