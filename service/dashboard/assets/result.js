// One finished analysis: its JSON and timeline come in, the page's right side goes out: sentence, player, lanes, coverage, faces, facts.

import { ask } from "./api.js";
import { VERDICTS, bytes, chip, clock, h, probability, reason, s, seconds } from "./dom.js";
import { TimelineView } from "./timeline.js";

export async function showResult(analysis, { onDelete }) {
  const { result } = analysis;
  const timeline = await ask(analysis.links.timeline);
  const player = new Player(analysis, result);
  const view = new TimelineView(timeline, result, (t) => player.seek(t));
  player.onTime = (t) => {
    view.show(t);
    player.drawBoxes(view.tracks.map((track) => [track, view.at(track, t)]), timeline.threshold);
  };
  const element = h(
    "article",
    { class: `result ${result.verdict}` },
    head(analysis, onDelete),
    h("section", { class: "card stage", "aria-label": "Video and scores" }, player.element, view.element, keys()),
    coverage(result),
    segments(result, player),
    faces(analysis, result, player),
    facts(analysis, result),
  );
  return { element, onKey: (event) => onKey(event, player, view), close: () => player.close() };
}

function head(analysis, onDelete) {
  const { result, links } = analysis;
  return h(
    "header",
    { class: "verdict" },
    h("p", { class: "file" }, chip(analysis), h("span", { class: "ellipsis" }, analysis.filename ?? analysis.id)),
    h("h1", {}, result.sentence),
    measure(result),
    result.warnings.length ? h("ul", { class: "warnings" }, result.warnings.map((one) => h("li", {}, one.detail))) : null,
    h("nav", { class: "actions", "aria-label": "This analysis" },
      h("a", { class: "button", href: links.report, target: "_blank", rel: "noopener" }, "Report"),
      h("a", { class: "quiet", href: links.self, target: "_blank", rel: "noopener" }, "JSON"),
      h("a", { class: "quiet", href: `${links.timeline}?format=csv`, download: `${analysis.id}.csv` }, "CSV"),
      h("a", { class: "quiet", href: links.plot, target: "_blank", rel: "noopener" }, "Picture"),
      h("button", { type: "button", class: "quiet danger", onclick: onDelete }, "Delete")),
  );
}

// The probability with its interval and threshold, or why there is none.
export function measure({ score, threshold, target_fpr: rate, reasons }) {
  if (score.p === null) return h("p", { class: "number" }, "Probability: not judged", reasons.length ? ` (${reasons.map(reason).join(", ")})` : "");
  return h("div", { class: "measure" }, gauge(score, threshold), h("p", { class: "number" },
    h("b", {}, probability(score.p)), ` probability of manipulation, 95 % interval ${score.low.toFixed(2)} to ${score.high.toFixed(2)}. `,
    `At ${threshold.toFixed(2)} and above it counts as manipulated: ${+(rate * 100).toFixed(2)} % of real videos get there.`));
}

function gauge(score, threshold) {
  const x = (p) => (p * 300).toFixed(1);
  return s("svg", { class: "gauge", viewBox: "-6 0 312 26", role: "img", "aria-label": `Probability ${probability(score.p)}, threshold ${threshold.toFixed(2)}` },
    s("rect", { class: "track", x: 0, y: 9, width: 300, height: 6, rx: 3 }),
    s("rect", { class: "interval", x: x(score.low), y: 9, width: Math.max((score.high - score.low) * 300, 2), height: 6, rx: 3 }),
    s("path", { class: "limit", d: `M${x(threshold)} 3v18` }),
    s("circle", { class: "dot", cx: x(score.p), cy: 12, r: 6 }));
}

const keys = () =>
  h("p", { class: "keys" }, h("kbd", {}, "space"), " play  ", h("kbd", {}, "←"), h("kbd", {}, "→"), " one judged frame  ", h("kbd", {}, "N"), " next segment");

function onKey(event, player, view) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key === " ") player.toggle();
  else if (event.key === "ArrowRight") view.step(1);
  else if (event.key === "ArrowLeft") view.step(-1);
  else if (event.key.toLowerCase() === "n") {
    const starts = view.result.segments.map((segment) => segment.start.t).sort((a, b) => a - b);
    const next = starts.find((t) => t > view.t + 0.02) ?? starts[0];
    if (next !== undefined) player.seek(next);
  } else return false;
  return true;
}

// The video with the faces' boxes over it. The playhead follows the frame that is on screen, not the player's clock, which runs ahead of it.
class Player {
  constructor(analysis, result) {
    this.video = h("video", { src: analysis.links.media, preload: "auto", playsinline: true, muted: true, "aria-label": "The uploaded video" });
    this.video.muted = true;
    this.boxes = s("svg", { class: "boxes", "aria-hidden": "true", viewBox: `0 0 ${result.media.width} ${result.media.height}` });
    this.button = h("button", { type: "button", class: "play", "aria-label": "Play", onclick: () => this.toggle() }, "▶");
    this.note = h("p", { class: "notice", hidden: true });
    this.element = h("div", { class: "player" }, h("div", { class: "screen" }, this.video, this.boxes), this.button, this.note);
    this.onTime = () => {};
    this.open = true;
    this.video.addEventListener("play", () => this.#face("❚❚", "Pause"));
    this.video.addEventListener("pause", () => this.#face("▶", "Play"));
    this.video.addEventListener("click", () => this.toggle());
    this.video.addEventListener("seeked", () => this.onTime(this.video.currentTime));
    this.video.addEventListener("error", () => this.#unplayable(result));
    this.video.addEventListener("loadedmetadata", () => {
      this.boxes.setAttribute("viewBox", `0 0 ${this.video.videoWidth} ${this.video.videoHeight}`);
    });
    // Without a first seek some browsers show no picture until play.
    this.video.addEventListener("loadeddata", () => this.seek(0), { once: true });
    this.#follow();
  }

  seek(t) {
    if (this.video.error) this.onTime(t);
    else this.video.currentTime = Math.max(t, 0) + 0.001;
  }

  toggle() {
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  close() {
    this.open = false;
    this.video.removeAttribute("src");
    this.video.load();
  }

  drawBoxes(rows, threshold) {
    this.boxes.replaceChildren(
      ...rows.filter(([, row]) => row).map(([track, row]) => {
        const [x0, y0, x1, y1] = row.box;
        const kind = row.p === null ? "unjudged" : row.p >= threshold ? "high" : "low";
        const size = Math.max((x1 - x0) / 9, 9);
        return s("g", { class: kind }, s("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: size / 3 }),
          s("text", { x: x0, y: y0 - size * 0.4, "font-size": size }, `face ${track.id}: ${probability(row.p)}`));
      }),
    );
  }

  #follow() {
    if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
      this.video.addEventListener("timeupdate", () => this.onTime(this.video.currentTime));
      return;
    }
    const onFrame = (_now, frame) => {
      if (!this.open) return;
      this.onTime(frame.mediaTime);
      this.video.requestVideoFrameCallback(onFrame);
    };
    this.video.requestVideoFrameCallback(onFrame);
  }

  #face(glyph, word) {
    this.button.textContent = glyph;
    this.button.setAttribute("aria-label", word);
  }

  #unplayable(result) {
    if (!this.open) return;
    this.note.textContent = `This browser cannot play ${result.media.codec} in ${result.media.container}. The scores below are complete; download the media to watch it elsewhere.`;
    this.note.hidden = false;
    this.button.disabled = true;
  }
}

export function coverage(result) {
  const { coverage: cover } = result;
  const total = Math.max(cover.duration_s, 1e-9);
  const parts = [{ word: "judged", s: cover.judged_s, kind: "judged" }, ...cover.reasons.map((one) => ({ word: reason(one.code), s: one.duration_s, kind: "missed" }))].filter((part) => part.s > 0);
  let from = 0;
  const bar = s("svg", { class: "cover", viewBox: "0 0 1000 14", preserveAspectRatio: "none", "aria-hidden": "true" });
  parts.forEach((part, n) => {
    const width = (part.s / total) * 1000;
    bar.append(s("rect", { class: `${part.kind} c${n % 5}`, x: from, y: 0, width: Math.max(width - 3, 1), height: 14 }));
    from += width;
  });
  return h("section", { class: "card" },
    h("h2", {}, `${seconds(cover.judged_s)} of ${seconds(cover.duration_s)} could be judged`),
    bar,
    h("ul", { class: "legend" }, parts.map((part, n) => h("li", {}, h("span", { class: `swatch ${part.kind} c${n % 5}` }), `${part.word} ${seconds(part.s)}`))),
    h("p", { class: "fine" }, `${cover.faces_seen} ${cover.faces_seen === 1 ? "face" : "faces"} seen, ${cover.faces_judged} judged.`));
}

function segments(result, player) {
  if (!result.segments.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Where"),
    h("ol", { class: "segments" }, result.segments.map((segment) =>
      h("li", {}, h("button", { type: "button", class: "jump", onclick: () => player.seek(segment.start.t) },
        h("b", {}, `${clock(segment.start.t)} to ${clock(segment.end.t)}`),
        ` probability ${probability(segment.score.p)}, face ${segment.track_ids.join(", ")}`)))));
}

function faces(analysis, result, player) {
  if (!result.tracks.length) return null;
  const toggle = h("input", { type: "checkbox", id: "seams" });
  const strip = h("div", { class: "faces" }, result.tracks.map((track) => face(analysis, track, player)));
  toggle.addEventListener("change", () => strip.classList.toggle("seams", toggle.checked));
  const hasCrops = result.tracks.some((track) => track.crops.length);
  return h("section", { class: "card" },
    h("div", { class: "split" }, h("h2", {}, "Faces"), hasCrops && h("label", { class: "switch", for: "seams" }, toggle, " show where seams were seen")),
    strip);
}

function face(analysis, track, player) {
  const base = `${analysis.links.self}/tracks/${track.id}/crops`;
  const judged = track.score.p !== null;
  return h("section", { class: "face" },
    h("h3", {}, `Face ${track.id}`, h("span", { class: "face-score" }, judged ? ` p ${probability(track.score.p)}` : ` not judged: ${reason(track.reason ?? "too_short")}`)),
    h("p", { class: "fine" }, `${clock(track.first.t)} to ${clock(track.last.t)}, ${track.judged} of ${track.observations} observations judged`,
      track.time_constants_s ? `; memory of ${track.time_constants_s[0].toFixed(2)} to ${track.time_constants_s[2].toFixed(2)} s` : ""),
    h("div", { class: "crops" }, track.crops.map((crop) =>
      h("button", { type: "button", class: "crop", title: "Go to this moment", onclick: () => player.seek(crop.at.t) },
        h("span", { class: "pair" },
          h("img", { src: `${base}/${crop.k}`, alt: `Face ${track.id} at ${clock(crop.at.t)}`, loading: "lazy" }),
          h("img", { class: "seam", src: `${base}/${crop.k}?layer=boundary`, alt: "", loading: "lazy" })),
        h("span", { class: "caption" }, clock(crop.at.t), h("b", {}, crop.p === null ? " not judged" : ` p ${probability(crop.p)}`))))));
}

function facts(analysis, result) {
  const { media, time } = result;
  const rows = [
    ["Media", `${media.width} × ${media.height}, ${media.codec} in ${media.container}, ${bytes(media.size_bytes)}`],
    ["Frames", `${media.frames_decoded} decoded, ${media.frames_analysed} analysed`],
    ["Rate", (time.true_fps === null ? "not measured" : `${time.true_fps.toFixed(2)} frames per second measured, ${time.variable ? "variable" : "steady"}`)
      + (time.index_error_s > 0.05 ? `; counting frames would be up to ${time.index_error_s.toFixed(2)} s wrong` : "")],
    ["Clock", [time.no_pts, time.duplicates, time.backward, time.gap_count, time.epochs - 1].some(Boolean)
      ? `${time.no_pts} frames without a timestamp, ${time.duplicates} repeated, ${time.backward} backward, ${time.gap_count} gaps, ${time.epochs - 1} breaks`
      : "every frame carries its own timestamp"],
    ["Damage", time.corrupt + time.decode_errors + time.partial
      ? `${time.corrupt} damaged frames, ${time.tainted} built on damage, ${time.decode_errors} decoding errors` : "none found"],
    ["SHA-256", h("code", {}, media.sha256 ?? "unknown")],
    ...result.models.flatMap((model) => [
      ["Model", `${model.name} ${model.version}, crops ${model.crop_version}, calibration ${model.calibration_id}`],
      ["Weights", h("code", {}, model.weights_sha256)],
    ]),
    ["Analysis", h("code", {}, analysis.id)],
  ];
  return h("section", { class: "card" },
    h("details", {}, h("summary", {}, "Media, model and how to reproduce this"),
      h("dl", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h("p", { class: "fine" }, "The same bytes with the same weights give the same scores: ", h("code", {}, `undercurrent detect ${analysis.filename ?? "FILE"} --json`))),
    h("p", { class: "fine" }, "This looks at the motion and the seams of faces. Wholly synthetic video is outside what it can promise, and ",
      `"${VERDICTS.no_evidence.word.toLowerCase()}" says that nothing was found, not that the video is genuine.`));
}
