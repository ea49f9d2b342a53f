// The service's clock as this browser knows it: unix seconds of events that just came go in, what time it is there now goes out.

let behind = Infinity; // This clock less that one; the quickest message knows it best.

export function heard(at: number): void {
  behind = Math.min(behind, Date.now() / 1000 - at);
}

export const serviceNow = (): number => Date.now() / 1000 - (Number.isFinite(behind) ? behind : 0);
