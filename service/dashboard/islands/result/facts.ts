// What it was judged from and with: a result comes in, a list of facts about media, clock, model and how to repeat it goes out.

import { bytes, h } from "../dom";
import { fill, named, text } from "../text";
import type { Analysis, Result } from "../wire";
import { credentials } from "./credentials";

const facts = text.facts;
// Beyond this, counting frames would have been wrong by more than a viewer can see.
const VISIBLE_S = 0.05;

export function factsCard(analysis: Analysis, result: Result): HTMLElement {
  const { media, time } = result;
  const rate =
    time.true_fps === null
      ? facts.not_measured
      : fill(time.variable ? facts.variable : facts.steady, { fps: time.true_fps.toFixed(2) });
  const wrong = (time.index_error_s ?? 0) > VISIBLE_S ? fill(facts.index_error, { s: (time.index_error_s ?? 0).toFixed(2) }) : "";
  const odd = { no_pts: time.no_pts, duplicates: time.duplicates, backward: time.backward, gaps: time.gap_count, breaks: time.epochs - 1 };
  const damage = { corrupt: time.corrupt, tainted: time.tainted, errors: time.decode_errors };
  const rows: [string, string | HTMLElement][] = [
    [facts.media, fill(facts.media_is, { width: media.width, height: media.height, codec: media.codec, container: media.container, size: bytes(media.size_bytes) })],
    [facts.frames, fill(facts.frames_are, { decoded: media.frames_decoded, analysed: media.frames_analysed })],
    [facts.rate, `${rate}${wrong}`],
    [facts.clock, `${named(text.provenance, time.provenance)}; ${Object.values(odd).some(Boolean) ? fill(facts.odd, odd) : facts.even}`],
    [facts.damage, time.corrupt + time.decode_errors + time.partial ? fill(facts.damaged, damage) : facts.whole],
    ...(result.content_credentials ? [[facts.credentials, credentials(result.content_credentials)] as [string, HTMLElement]] : []),
    ["SHA-256", h("code", {}, media.sha256 ?? text.common.unknown)],
    ...result.models.flatMap((model): [string, string | HTMLElement][] => [
      [facts.model, fill(facts.model_is, { name: model.name, version: model.version, crops: model.crop_version })],
      [facts.calibration, h("code", {}, model.calibration_id)],
      [facts.weights, h("code", {}, model.weights_sha256)],
    ]),
    [facts.threshold, fill(result.threshold_version ? facts.threshold_chosen : facts.threshold_shipped, { p: result.threshold.toFixed(4), n: result.threshold_version })],
    [facts.analysis, h("code", {}, analysis.id)],
  ];
  return h("section", { class: "card" },
    h("details", {}, h("summary", {}, facts.title),
      h("dl", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h("p", { class: "fine" }, facts.same, " ", h("code", {}, `undercurrent detect ${analysis.filename ?? "FILE"} --json`))),
    h("p", { class: "fine" }, facts.scope));
}
