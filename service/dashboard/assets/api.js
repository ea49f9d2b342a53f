// The wire: requests to /v1 go out, analyses or Problems come in.

export class Problem extends Error {
  constructor(body) {
    super(body.title);
    Object.assign(this, body);
  }
}

const ADVICE = {
  "upload-too-large": "Cut the part you doubt out of the video, or raise the service's limit (UNDERCURRENT_MAX_UPLOAD_BYTES).",
  "media-too-large": "Scale the video down, or cut the part you doubt out of it.",
  "unsupported-media": "Choose a video file: mp4, mov, mkv, webm, avi or ts.",
  "still-image": "A picture has no motion to judge. Choose a video.",
  "no-video-stream": "The file holds sound only. Choose one with a picture.",
  "empty-source": "The file has no bytes. Was the copy interrupted? Copy it again.",
  "undecodable-media": "Not one picture could be read. Try to get the original file again.",
  "insufficient-storage": "Delete analyses that you no longer need, or give the service more disk.",
  "no-connection": "Is the service still running? Start it again and repeat.",
  "internal-error": "Try again. If it repeats, look for this request in the service's log.",
  "analysis-not-found": "It may have been deleted. Choose another one from the list.",
};

export const advice = (problem) => ADVICE[problem.type?.split(":").pop()] ?? null;

const offline = () =>
  new Problem({ type: "urn:undercurrent:problem:no-connection", title: "The service does not answer", detail: "The connection failed." });

function problemOf(text, status) {
  try {
    return new Problem(JSON.parse(text));
  } catch {
    return new Problem({ type: "about:blank", title: "Unexpected answer", detail: `The service answered ${status}.` });
  }
}

export async function ask(path, options = {}) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : offline();
  });
  if (response.status === 401) location.assign(`/sign-in?${new URLSearchParams({ next: location.pathname })}`);
  if (!response.ok) throw problemOf(await response.text(), response.status);
  return response.status === 204 ? null : response.json();
}

// fetch cannot tell how much of a body it has sent; XMLHttpRequest can.
export function upload(file, onShare) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", "/v1/analyses");
    request.upload.addEventListener("progress", (event) => onShare(event.loaded / event.total));
    request.addEventListener("load", () =>
      request.status < 300 ? resolve(JSON.parse(request.responseText)) : reject(problemOf(request.responseText, request.status)),
    );
    request.addEventListener("error", () => reject(offline()));
    request.addEventListener("abort", () => reject(null));
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
  return { done, stop: () => request.abort() };
}

// One analysis until its end; EventSource reconnects by itself, and the first event is always the present state.
export function follow(id, { onState, onProgress, onEnd, onGone }) {
  const source = new EventSource(`/v1/analyses/${id}/events`);
  source.addEventListener("state", (event) => onState?.(JSON.parse(event.data)));
  source.addEventListener("progress", (event) => onProgress?.(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    source.close();
    onEnd?.(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) onGone?.();
  });
  return () => source.close();
}
