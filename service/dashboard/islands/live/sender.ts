// What both ways of sending have in common: `pictures.ts` and `recording.ts` are Senders, `pages/live.ts` drives one.

import type { Shot } from "./camera";
import type { Connection } from "./connection";

export interface SenderTerms {
  stream: MediaStream;
  // A picture that was due could not be sent.
  onSkip: (cause: string) => void;
  // So much of a recording waits that no more can be kept.
  onFull: () => void;
}

export interface Sender {
  // Of what is sent over what is seen.
  readonly scale: number;
  begin(connection: Connection, ready: { hz: number }): void;
  // Where a picture is on the stream's line of time, in microseconds.
  at(picture: Shot): number;
  see(picture: Shot): void;
  // Another camera films from here on.
  cut(): void;
  end(): Promise<void>;
}
