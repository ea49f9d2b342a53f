// The newest picture of a feed: its id comes in; the picture with what was seen in it goes out, or that there is no newer one, or none.

import type { Look } from "./wire";

export interface Still {
  image: ImageBitmap;
  look: Look;
}

export class Stills {
  #tag: string | null = null;

  // For one feed and one place where it is shown.
  constructor(private readonly path: string) {}

  async newest(): Promise<Still | "same" | "none"> {
    const headers: HeadersInit = this.#tag === null ? {} : { "If-None-Match": this.#tag };
    const response = await fetch(`${this.path}/still`, { headers, cache: "no-store" }).catch(() => null);
    if (response?.status === 304) return "same";
    const look = response?.headers.get("Undercurrent-Look");
    if (!response?.ok || !look) return this.#none();
    const image = await response.blob().then(createImageBitmap).catch(() => null); // It broke off in the middle.
    if (!image) return this.#none();
    this.#tag = response.headers.get("ETag");
    return { image, look: JSON.parse(look) as Look };
  }

  #none(): "none" {
    this.#tag = null;
    return "none";
  }
}

export function paint(canvas: HTMLCanvasElement, image: ImageBitmap): void {
  if (canvas.width !== image.width || canvas.height !== image.height) Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d", { alpha: false })?.drawImage(image, 0, 0);
  image.close();
}
