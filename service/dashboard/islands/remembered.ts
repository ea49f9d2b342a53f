// What this browser keeps for its reader: a name and a value come in, the value or null goes out later. Used by the desk and the sign-in.
// A browser that keeps nothing (private windows, a full store) only forgets.

export function recall<T>(store: "localStorage" | "sessionStorage", name: string): T | null {
  try {
    return JSON.parse(window[store].getItem(`undercurrent.${name}`) ?? "null") as T | null;
  } catch {
    return null;
  }
}

export function remember(store: "localStorage" | "sessionStorage", name: string, value: unknown): void {
  try {
    if (value === null) window[store].removeItem(`undercurrent.${name}`);
    else window[store].setItem(`undercurrent.${name}`, JSON.stringify(value));
  } catch {
    // Nothing is lost but a convenience.
  }
}

// Whether anything is kept under a name that begins so.
export function holds(store: "localStorage" | "sessionStorage", beginning: string): boolean {
  try {
    return Object.keys(window[store]).some((name) => name.startsWith(`undercurrent.${beginning}`));
  } catch {
    return false;
  }
}
