// Words, numbers and elements: plain values come in, nodes and phrases go out. Text is always a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const VERDICTS = {
  manipulated: { word: "Manipulated", glyph: "▲" },
  no_evidence: { word: "No evidence", glyph: "○" },
  inconclusive: { word: "Inconclusive", glyph: "◐" },
  not_applicable: { word: "Not applicable", glyph: "–" },
};

export const STATES = {
  queued: { word: "Waiting", glyph: "…" },
  running: { word: "Looking", glyph: "~" },
  failed: { word: "Failed", glyph: "!" },
  cancelled: { word: "Stopped", glyph: "×" },
};

const REASONS = {
  no_face: "no face to be seen",
  face_too_small: "the face is too small",
  motion_blur: "motion blur",
  too_dark: "too dark",
  low_bitrate: "compressed too much",
  decode_error: "the file is damaged there",
  too_short: "too short to judge",
  profile_face: "the face is turned away",
  out_of_distribution: "unlike anything the model knows",
  load_shed: "skipped under load",
  gap: "no frames",
  weak_evidence: "weak evidence",
};

export const reason = (code) => REASONS[code] ?? code.replaceAll("_", " ");

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const probability = (p) => (p === null || p === undefined ? "not judged" : p.toFixed(2));

export function clock(t) {
  const sign = t < 0 ? "-" : "";
  const whole = Math.abs(t);
  const minutes = Math.floor(whole / 60);
  const seconds = whole - minutes * 60;
  return minutes ? `${sign}${minutes}:${seconds.toFixed(1).padStart(4, "0")}` : `${sign}${seconds.toFixed(2)} s`;
}

export const seconds = (t) => `${t >= 100 ? t.toFixed(0) : t.toFixed(1)} s`;

export function bytes(n) {
  if (n === null) return "unknown";
  const units = ["bytes", "kB", "MB", "GB"];
  let step = 0;
  while (n >= 1000 && step < units.length - 1) [n, step] = [n / 1000, step + 1];
  return `${step ? n.toFixed(1) : n} ${units[step]}`;
}

export function ago(iso) {
  const passed = (Date.now() - new Date(iso).getTime()) / 1000;
  if (passed < 60) return "just now";
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  return new Date(iso).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function chip(analysis) {
  const kind = analysis.status === "succeeded" ? analysis.verdict : analysis.status;
  const { word, glyph } = VERDICTS[kind] ?? STATES[kind];
  return h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, glyph), ` ${word}`);
}

export function say(text) {
  document.getElementById("say").textContent = text;
}
