// Codes of the wire and of this page come in, what a person reads goes out.

export const STATES = {
  off: ["Off", "○", ""],
  asking: ["Waiting for the camera", "…", "queued"],
  connecting: ["Connecting", "…", "queued"],
  running: ["Live", "●", "running"],
  waiting: ["No connection", "!", "failed"],
  busy: ["The service is busy", "…", "failed"],
  away: ["Paused", "❚❚", "queued"],
  stopping: ["Finishing", "…", "queued"],
};

const MISSED = {
  overtaken: "left out, because the service was behind",
  undecodable: "could not be decoded",
  missing: "never came",
  no_pts: "came without a time",
  nets_failed: "on which the nets failed",
  paused: "not looked at while paused",
  client_over_credit: "sent beyond what the service takes",
  browser_busy: "not sent, because this browser was still busy with the one before",
  no_room: "not sent, because the connection was behind or away",
};

export const missed = (cause, n) => `${n} ${n === 1 ? "picture" : "pictures"} ${MISSED[cause] ?? cause.replaceAll("_", " ")}`;

const GAPS = {
  missing: "no pictures",
  discontinuity: "another camera",
  reconnected: "the camera was away",
  paused: "paused",
};

export const gap = ({ cause }) => GAPS[cause] ?? cause;

export const HINTS = {
  no_face: "No face to be seen: look into the camera.",
  face_too_small: "Come closer: the face is too small to judge.",
  too_dark: "More light: the face is too dark to judge.",
  motion_blur: "Hold still for a moment: the face is blurred.",
  profile_face: "Look towards the camera: the face is turned away.",
  out_of_distribution: "This picture is unlike anything the model knows; try other light or another distance.",
};
