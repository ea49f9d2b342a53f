// The 24 bytes before each piece of media, and the codes that a stream is closed with; the service's half is in media_header.py and close_codes.py.

export const KIND = { chunk: 1, jpeg: 2 } as const;
export const FLAG = { discontinuity: 2 } as const;
export const CLOSE = { done: 1000, draining: 1012, busy: 1013, unknownSession: 4404 } as const;
const NO_PTS = -(2n ** 63n);

export type Kind = (typeof KIND)[keyof typeof KIND];

// Stamps in microseconds; null: none.
export interface Stamps {
  flags?: number;
  pts_us?: number | null;
  capture_epoch_us?: number;
}

export function piece(kind: Kind, seq: number, payload: ArrayBuffer, { flags = 0, pts_us = null, capture_epoch_us = 0 }: Stamps = {}): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(24 + payload.byteLength);
  const header = new DataView(message.buffer);
  header.setUint8(0, 1);
  header.setUint8(1, kind);
  header.setUint16(2, flags);
  header.setUint32(4, seq);
  header.setBigInt64(8, pts_us === null ? NO_PTS : BigInt(pts_us));
  header.setBigInt64(16, BigInt(capture_epoch_us));
  message.set(new Uint8Array(payload), 24);
  return message;
}
