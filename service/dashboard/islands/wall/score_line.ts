// A feed's last minutes: samples of about a second come in, a line on a canvas goes out. Sixteen of them are drawn once a second, which an
// SVG of 180 points each would make a thousand elements of.

import { fill, text } from "../text";
import type { Sample } from "./wire";

export const SPAN_S = 180;
const HOLE_S = 5; // Without a sample for longer: nobody looked.
const PAD = 4;

interface Colours {
  line: string;
  high: string;
  soft: string;
  hatch: string;
}

let colours: Colours | null = null;
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (colours = null));

function coloursNow(): Colours {
  if (colours) return colours;
  const style = getComputedStyle(document.documentElement);
  const of = (name: string): string => style.getPropertyValue(name).trim();
  return (colours = { line: of("--accent"), high: of("--warm"), soft: of("--soft"), hatch: of("--hatch") });
}

export class ScoreLine {
  threshold: number | null = null;
  #samples: Sample[] = [];

  constructor(private readonly canvas: HTMLCanvasElement) {
    canvas.setAttribute("role", "img");
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  // In the place of all that was there.
  begin(samples: readonly Sample[]): void {
    this.#samples = [...samples];
  }

  add(sample: Sample): void {
    this.#samples.push(sample);
    if (this.#samples.length > 2 * SPAN_S) this.#samples = this.#samples.slice(-SPAN_S);
  }

  get newest(): number | null {
    return this.#samples.at(-1)?.[1] ?? null;
  }

  highest(now: number): number | null {
    return this.#samples.reduce<number | null>((most, [at, p]) => (p === null || at < now - SPAN_S ? most : Math.max(most ?? 0, p)), null);
  }

  draw(now: number): void {
    const { canvas } = this;
    const [width, height, sharp] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio];
    const context = canvas.getContext("2d");
    if (!context || !width) return;
    const [wide, high] = [Math.round(width * sharp), Math.round(height * sharp)];
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, width, height);
    const x = (at: number): number => width * (1 - (now - at) / SPAN_S);
    const y = (p: number): number => PAD + (1 - p) * (height - 2 * PAD);
    this.#drawHoles(context, now, x, height);
    this.#drawThreshold(context, width, y);
    this.#drawScores(context, x, y);
    this.#describe(now);
  }

  #drawHoles(context: CanvasRenderingContext2D, now: number, x: (at: number) => number, height: number): void {
    context.strokeStyle = coloursNow().hatch;
    context.lineWidth = 1;
    let before = now - SPAN_S;
    for (const at of [...this.#samples.map(([at]) => at), now]) {
      if (at - before > HOLE_S && at > now - SPAN_S) {
        const [from, to] = [x(before), x(at)];
        context.save();
        context.beginPath();
        context.rect(from, 0, to - from, height);
        context.clip();
        context.beginPath();
        for (let left = from - height; left < to; left += 7) {
          context.moveTo(left, height);
          context.lineTo(left + height, 0);
        }
        context.stroke();
        context.restore();
      }
      before = Math.max(before, at);
    }
  }

  #drawThreshold(context: CanvasRenderingContext2D, width: number, y: (p: number) => number): void {
    if (this.threshold === null) return;
    context.strokeStyle = coloursNow().soft;
    context.lineWidth = 1;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(0, y(this.threshold));
    context.lineTo(width, y(this.threshold));
    context.stroke();
    context.setLineDash([]);
  }

  // Lifted where nobody was judged; thicker, and with its ground filled, where it is at or above the threshold.
  #drawScores(context: CanvasRenderingContext2D, x: (at: number) => number, y: (p: number) => number): void {
    const limit = this.threshold ?? Infinity;
    let before: Sample | null = null;
    context.lineCap = context.lineJoin = "round";
    for (const sample of this.#samples) {
      const [at, p] = sample;
      if (p !== null) {
        const joined = before !== null && before[1] !== null && at - before[0] <= HOLE_S ? before : null;
        const high = p >= limit;
        const [fromX, fromY] = joined ? [x(joined[0]), y(joined[1] ?? p)] : [x(at) - 1, y(p)];
        context.strokeStyle = high ? coloursNow().high : coloursNow().line;
        context.lineWidth = high ? 3 : 1.6;
        context.beginPath();
        context.moveTo(fromX, fromY);
        context.lineTo(x(at), y(p));
        context.stroke();
        if (high) {
          context.globalAlpha = 0.18;
          context.fillStyle = coloursNow().high;
          context.beginPath();
          context.moveTo(fromX, Math.min(fromY, y(limit)));
          context.lineTo(x(at), y(p));
          context.lineTo(x(at), y(limit));
          context.lineTo(fromX, y(limit));
          context.fill();
          context.globalAlpha = 1;
        }
      }
      before = sample;
    }
  }

  #describe(now: number): void {
    const most = this.highest(now);
    const words = most === null ? text.wall.line_nobody : fill(text.wall.line_highest, { p: most.toFixed(2) });
    const limit = this.threshold === null ? "" : ` ${fill(text.wall.line_threshold, { p: this.threshold.toFixed(2) })}`;
    this.canvas.setAttribute("aria-label", `${words}${limit}`);
  }
}
