// One stream over as many WebSockets as it takes: media goes out within the credit, every event comes in once and in order, whatever breaks between.

import { CLOSE, piece } from "./wire.js";

const SILENCE_MS = 12_000; // `stats` come every two seconds; a browser cannot see pings.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const UNSENT_BYTES = 1024 ** 2; // In the browser's own queue; beyond it pictures would only grow old.
const WAITING_BYTES = 32 * 1024 ** 2; // Of a recording while nobody takes it: a minute and a half of it.

export class Connection {
  #start; #onEvent; #onState; #onClosed;
  #socket = null;
  #session = null;
  #lastEvent = 0;
  #credit = { media: 0, bytes: 0 };
  #sent = { media: 0, bytes: 0 };
  #seq = 0; // Of the next message.
  #kept = []; // Pieces of a recording that the service has not said it took, to be sent again after a disconnection.
  #keptFrom = 0;
  #keptBytes = 0;
  #ready = false;
  #paused = false;
  #stopping = false;
  #failures = 0;
  #error = null;
  #end = null;
  #timer = 0;
  #silence = 0;
  #hurry = () => this.#waiting && this.#connect();
  #waiting = false;

  // `start`: the fields of the first message. onEvent(event): each once. onState(name, {retryAt, busy, kept}): connecting, open, waiting.
  // onClosed({code, error, end}): it is over; without `end` nobody knows how it would have ended.
  constructor(start, { onEvent, onState, onClosed, delayMs = 0 }) {
    [this.#start, this.#onEvent, this.#onState, this.#onClosed] = [start, onEvent, onState, onClosed];
    window.addEventListener("online", this.#hurry);
    if (delayMs) this.#wait(delayMs);
    else this.#connect();
  }

  // A single picture: sent now, or not at all. Returns whether.
  picture(kind, payload, header) {
    if (!this.#room(payload.byteLength) || this.#socket.bufferedAmount > UNSENT_BYTES) return false;
    this.#send(kind, payload, header);
    return true;
  }

  // A piece of a recording: none may be missing, so it is kept until it was taken. Returns false when too many wait.
  chunk(kind, payload) {
    if (this.#keptBytes + payload.byteLength > WAITING_BYTES) return false;
    this.#kept.push({ kind, payload });
    this.#keptBytes += payload.byteLength;
    this.#flush();
    return true;
  }

  pause() {
    this.#paused = true;
    this.#say({ type: "pause" });
  }

  resume() {
    this.#paused = false;
    this.#say({ type: "resume_media" });
  }

  // Nothing more comes; the verdict follows, if the stream ever began.
  stop() {
    this.#stopping = true;
    if (this.#session) this.#flush();
    else this.#over({ code: CLOSE.done, error: null, end: null });
  }

  // Without waiting for a verdict. The service is told, or it would keep the stream's place for a minute.
  close() {
    this.#say({ type: "stop" });
    this.#over(null);
  }

  #connect() {
    this.#quiet();
    this.#onState("connecting", {});
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`, "undercurrent.v1");
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      const resume = this.#session && { ...this.#session, last_event_seq: this.#lastEvent };
      socket.send(JSON.stringify({ type: "start", ...(resume ? { resume } : this.#start) }));
    });
    socket.addEventListener("message", ({ data }) => this.#socket === socket && this.#hear(JSON.parse(data)));
    socket.addEventListener("close", ({ code }) => this.#socket === socket && this.#lost(code));
    this.#socket = socket;
    this.#listen();
  }

  #hear(event) {
    this.#listen();
    if (event.type === "resumed") {
      this.#seq = event.last_media_seq === null ? 0 : event.last_media_seq + 1;
      this.#sent = event.received;
      this.#taken(this.#seq);
      this.#open(event.credit);
      return;
    }
    if (event.type === "error") this.#error = event;
    if (event.event_seq) {
      if (event.event_seq !== this.#lastEvent + 1) return this.#lost(0);
      this.#lastEvent = event.event_seq;
    }
    if (event.type === "ready") {
      this.#session = { session_id: event.session_id, token: event.token };
      this.#open(event.credit);
    }
    if (event.received) this.#taken(event.received.media);
    if (event.type === "credit") {
      this.#credit = event.credit;
      this.#flush();
    }
    if (event.type === "stats") this.#say({ type: "ack", event_seq: this.#lastEvent });
    if (event.event_seq) this.#onEvent(event);
    if (event.type === "end") this.#end = event;
  }

  #open(credit) {
    [this.#credit, this.#ready, this.#failures, this.#error] = [credit, true, 0, null];
    this.#onState("open", {});
    if (this.#paused) this.#say({ type: "pause" });
    this.#flush();
  }

  #lost(code) {
    const socket = this.#socket;
    this.#quiet();
    socket?.close();
    const gone = code === CLOSE.unknownSession;
    if (this.#end || gone || (code > 4000 && this.#error)) return this.#over({ code, error: this.#error, end: this.#end });
    if (code === CLOSE.busy) return this.#wait(1000 * (this.#error?.retry_after_s ?? 5) * (1 + 0.2 * Math.random()), { busy: true });
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#failures, LONGEST_WAIT_MS);
    this.#failures += 1;
    this.#wait(longest * (0.3 + 0.7 * Math.random())); // Many that were cut off at once do not come back at once.
  }

  #wait(ms, how = {}) {
    this.#waiting = true;
    this.#timer = setTimeout(() => this.#connect(), ms);
    this.#onState("waiting", { retryAt: performance.now() + ms, busy: false, kept: this.#session !== null, ...how });
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(0), SILENCE_MS);
  }

  // Let go of socket and timers.
  #quiet() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    [this.#socket, this.#ready, this.#waiting] = [null, false, false];
  }

  #over(how) {
    const socket = this.#socket;
    this.#quiet();
    socket?.close();
    window.removeEventListener("online", this.#hurry);
    if (how) this.#onClosed(how);
  }

  #room(size) {
    return this.#ready && this.#sent.media < this.#credit.media && this.#sent.bytes + size <= this.#credit.bytes;
  }

  #send(kind, payload, header = {}) {
    this.#socket.send(piece({ kind, seq: this.#seq, ...header }, payload));
    this.#seq += 1;
    this.#sent = { media: this.#sent.media + 1, bytes: this.#sent.bytes + payload.byteLength };
  }

  // What waits and may go; after the last of it, that it was the last.
  #flush() {
    for (let next; (next = this.#kept[this.#seq - this.#keptFrom]) && this.#room(next.payload.byteLength); ) this.#send(next.kind, next.payload);
    if (this.#stopping && this.#ready && !this.#kept[this.#seq - this.#keptFrom]) this.#say({ type: "stop" });
  }

  // The service has so many messages: they need not be kept.
  #taken(messages) {
    for (; this.#keptFrom < messages && this.#kept.length; this.#keptFrom += 1) this.#keptBytes -= this.#kept.shift().payload.byteLength;
  }

  #say(message) {
    if (this.#ready) this.#socket.send(JSON.stringify(message));
  }
}
