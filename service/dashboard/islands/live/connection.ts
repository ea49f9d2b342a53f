// One stream over as many WebSockets as it takes: media goes out within the credit, every event comes in once and in order, whatever breaks between.

import { type Problem, isFinal, refusalOf } from "../api";
import type { End, Failure, ServerMessage, SessionEvent } from "./events";
import { CLOSE, type Kind, type Stamps, piece } from "./wire";

const PATH = "/v1/stream";
const SILENCE_MS = 12_000; // `stats` come every two seconds; a browser cannot see pings.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const BUSY_S = 5; // Where nobody says when to come again.
const UNSENT_BYTES = 1024 ** 2; // In the browser's own queue; beyond it pictures would only grow old.
const WAITING_BYTES = 32 * 1024 ** 2; // Of a recording while nobody takes it: a minute and a half of it.

// `retryAt` by performance.now(). `busy`: the service is there and takes nobody, for the reason in `problem` if it gave one.
export interface How {
  retryAt?: number | null;
  busy?: boolean;
  kept?: boolean;
  problem?: Problem | null;
}

export type LinkState = "connecting" | "open" | "waiting";

// It is over; without `end` nobody knows how it would have ended.
export interface Closed {
  code: number;
  error: Failure | Problem | null;
  end: End | null;
}

interface Listener {
  onEvent: (event: SessionEvent) => void; // Each once.
  onState: (name: LinkState, how: How) => void;
  onClosed: (how: Closed) => void;
  delayMs?: number;
}

interface Kept {
  kind: Kind;
  payload: ArrayBuffer;
}

export class Connection {
  #start: object;
  #address = PATH;
  #listener: Listener;
  #socket: WebSocket | null = null;
  #session: { session_id: string; token: string } | null = null;
  #lastEvent = 0;
  #credit = { media: 0, bytes: 0 };
  #sent = { media: 0, bytes: 0 };
  #seq = 0; // Of the next message.
  #kept: Kept[] = []; // Pieces of a recording that the service has not said it took, to be sent again after a disconnection.
  #keptFrom = 0;
  #keptBytes = 0;
  #ready = false;
  #paused = false;
  #stopping = false;
  #failures = 0;
  #error: Failure | null = null;
  #end: End | null = null;
  #timer = 0;
  #silence = 0;
  #asking: AbortController | null = null;
  #waiting = false;
  #hurry = (): void => {
    if (this.#waiting) this.#connect();
  };

  // `start`: the fields of the first message.
  constructor(start: object, listener: Listener) {
    [this.#start, this.#listener] = [start, listener];
    window.addEventListener("online", this.#hurry);
    if (listener.delayMs) this.#wait(listener.delayMs);
    else this.#connect();
  }

  // Whether media can be sent now, as far as the connection goes.
  get open(): boolean {
    return this.#ready;
  }

  // A single picture: sent now, or not at all. Returns whether.
  picture(kind: Kind, payload: ArrayBuffer, stamps: Stamps): boolean {
    if (!this.#room(payload.byteLength) || (this.#socket?.bufferedAmount ?? Infinity) > UNSENT_BYTES) return false;
    this.#send(kind, payload, stamps);
    return true;
  }

  // A piece of a recording: none may be missing, so it is kept until it was taken. Returns false when too many wait.
  chunk(kind: Kind, payload: ArrayBuffer): boolean {
    if (this.#keptBytes + payload.byteLength > WAITING_BYTES) return false;
    this.#kept.push({ kind, payload });
    this.#keptBytes += payload.byteLength;
    this.#flush();
    return true;
  }

  pause(): void {
    this.#paused = true;
    this.#say({ type: "pause" });
  }

  resume(): void {
    this.#paused = false;
    this.#say({ type: "resume_media" });
  }

  // Nothing more comes; the verdict follows, if the stream ever began.
  stop(): void {
    this.#stopping = true;
    if (this.#session) this.#flush();
    else this.#over({ code: CLOSE.done, error: null, end: null });
  }

  // Without waiting for a verdict. The service is told, or it would keep the stream's place for a minute.
  close(): void {
    this.#say({ type: "stop" });
    this.#over(null);
  }

  #connect(): void {
    this.#quiet();
    // The same for as long as there is a stream, so that a balancer leads to the replica that has it; where there is no room yet, another one may have it.
    if (!this.#session) this.#address = `${PATH}?route=${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    this.#listener.onState("connecting", {});
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${this.#address}`, "undercurrent.v1");
    let opened = false;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      opened = true;
      const resume = this.#session && { ...this.#session, last_event_seq: this.#lastEvent };
      socket.send(JSON.stringify({ type: "start", ...(resume ? { resume } : this.#start) }));
    });
    socket.addEventListener("message", ({ data }) => this.#socket === socket && this.#hear(JSON.parse(data as string) as ServerMessage));
    socket.addEventListener("close", ({ code }) => {
      if (this.#socket !== socket) return;
      if (opened) this.#lost(code);
      else void this.#refused();
    });
    this.#socket = socket;
    this.#listen();
  }

  #hear(event: ServerMessage): void {
    this.#listen();
    if (event.type === "resumed") {
      this.#seq = event.last_media_seq === null ? 0 : event.last_media_seq + 1;
      this.#sent = event.received;
      this.#taken(this.#seq);
      return this.#open(event.credit);
    }
    if (event.type === "resume_failed" || event.type === "pong") return;
    if (event.type === "error") this.#error = event;
    if (event.event_seq) {
      if (event.event_seq !== this.#lastEvent + 1) return this.#lost(0);
      this.#lastEvent = event.event_seq;
    }
    if (event.type === "ready") {
      this.#session = { session_id: event.session_id, token: event.token };
      this.#open(event.credit);
    }
    if (event.type === "credit" || event.type === "stats") this.#taken(event.received.media);
    if (event.type === "credit") {
      this.#credit = event.credit;
      this.#flush();
    }
    if (event.type === "stats") this.#say({ type: "ack", event_seq: this.#lastEvent });
    if (event.event_seq) this.#listener.onEvent(event);
    if (event.type === "end") this.#end = event;
  }

  #open(credit: { media: number; bytes: number }): void {
    [this.#credit, this.#ready, this.#failures, this.#error] = [credit, true, 0, null];
    this.#listener.onState("open", {});
    if (this.#paused) this.#say({ type: "pause" });
    this.#flush();
  }

  #lost(code: number): void {
    const socket = this.#socket;
    this.#quiet();
    socket?.close();
    const gone = code === CLOSE.unknownSession;
    if (this.#end || gone || (code > 4000 && this.#error)) return this.#over({ code, error: this.#error, end: this.#end });
    if (code === CLOSE.busy) return this.#busy(this.#error?.retry_after_s ?? BUSY_S, null);
    this.#again();
  }

  // A browser is not told why its WebSocket was refused; asked plainly, the same address says it.
  async #refused(): Promise<void> {
    this.#quiet();
    const asking = (this.#asking = new AbortController());
    const problem = await refusalOf(this.#address, AbortSignal.any([asking.signal, AbortSignal.timeout(SILENCE_MS)]));
    if (this.#asking !== asking) return;
    this.#asking = null;
    if (problem === null) this.#again();
    else if (isFinal(problem)) this.#over({ code: 0, error: problem, end: null });
    else this.#busy(problem.retry_after_s ?? BUSY_S, problem);
  }

  #again(): void {
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#failures, LONGEST_WAIT_MS);
    this.#failures += 1;
    this.#wait(longest * (0.3 + 0.7 * Math.random())); // Many that were cut off at once do not come back at once.
  }

  #busy(seconds: number, problem: Problem | null): void {
    this.#wait(1000 * seconds * (1 + 0.2 * Math.random()), { busy: true, problem });
  }

  #wait(ms: number, how: How = {}): void {
    this.#waiting = true;
    this.#timer = setTimeout(() => this.#connect(), ms);
    this.#listener.onState("waiting", { retryAt: performance.now() + ms, busy: false, kept: this.#session !== null, ...how });
  }

  #listen(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(0), SILENCE_MS);
  }

  // Let go of socket, question and timers.
  #quiet(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    const asking = this.#asking;
    [this.#socket, this.#asking, this.#ready, this.#waiting] = [null, null, false, false];
    asking?.abort();
  }

  #over(how: Closed | null): void {
    const socket = this.#socket;
    this.#quiet();
    socket?.close();
    window.removeEventListener("online", this.#hurry);
    if (how) this.#listener.onClosed(how);
  }

  #room(size: number): boolean {
    return this.#ready && this.#sent.media < this.#credit.media && this.#sent.bytes + size <= this.#credit.bytes;
  }

  #send(kind: Kind, payload: ArrayBuffer, stamps: Stamps = {}): void {
    this.#socket?.send(piece(kind, this.#seq, payload, stamps));
    this.#seq += 1;
    this.#sent = { media: this.#sent.media + 1, bytes: this.#sent.bytes + payload.byteLength };
  }

  // What waits and may go; after the last of it, that it was the last.
  #flush(): void {
    for (let next; (next = this.#kept[this.#seq - this.#keptFrom]) && this.#room(next.payload.byteLength); ) this.#send(next.kind, next.payload);
    if (this.#stopping && this.#ready && !this.#kept[this.#seq - this.#keptFrom]) this.#say({ type: "stop" });
  }

  // The service has so many messages: they need not be kept.
  #taken(messages: number): void {
    for (let gone; this.#keptFrom < messages && (gone = this.#kept.shift()); this.#keptFrom += 1) this.#keptBytes -= gone.payload.byteLength;
  }

  #say(message: object): void {
    if (this.#ready) this.#socket?.send(JSON.stringify(message));
  }
}
