// The camera: a choice comes in, its pictures go out one by one, each with the time at which it was taken; or a Trouble in words.

export class Trouble extends Error {
  constructor(title, detail, hint) {
    super(title);
    Object.assign(this, { title, detail, hint });
  }
}

const TROUBLES = {
  NotAllowedError: () => new Trouble("The camera may not be used", "This browser was not allowed to use the camera, or you said no.",
    "Allow it for this page (the camera symbol in or beside the address bar, or the system's privacy settings), then start again."),
  NotFoundError: () => new Trouble("There is no camera", "The browser finds no camera on this machine.", "Connect one, then start again."),
  NotReadableError: () => new Trouble("The camera is busy", "The camera is there, but it gives no pictures.",
    "Close the program or the tab that uses it, or choose another camera, then start again."),
};

// Open a camera; `id` "" leaves the choice to the browser. Throws Trouble.
export async function openCamera(video, id, { onPicture, onGone }) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Trouble("This address may not use a camera", `Browsers give cameras only to pages that come over https or from this machine; this one came from ${location.host}.`,
      "Open it as http://localhost or http://127.0.0.1 on the machine that runs the service, or put the service behind https.");
  }
  if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
    throw new Trouble("This browser is too old", "It cannot tell when a picture was taken, and without times there is nothing to judge.", "Use a current Chromium, Firefox or Safari.");
  }
  const picture = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  const which = id ? { deviceId: { exact: id } } : { facingMode: "user" };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...picture, ...which } }).catch((error) => {
    const known = { OverconstrainedError: "NotFoundError", SecurityError: "NotAllowedError", AbortError: "NotReadableError" }[error.name] ?? error.name;
    throw TROUBLES[known]?.() ?? new Trouble("The camera cannot be opened", `${error.name}: ${error.message}`, "Start again, or choose another camera.");
  });
  return new Camera(video, stream, onPicture, onGone);
}

// [{id, name}] of the cameras; names are only told once one was allowed.
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((one) => one.kind === "videoinput" && one.deviceId).map((one, n) => ({ id: one.deviceId, name: one.label || `Camera ${n + 1}` }));
}

class Camera {
  constructor(video, stream, onPicture, onGone) {
    [this.stream, this.video] = [stream, video];
    [this.track] = stream.getVideoTracks();
    this.id = this.track.getSettings().deviceId ?? "";
    this.track.addEventListener("ended", () => this.track && onGone());
    video.srcObject = stream;
    video.play().catch(() => {}); // Closed again before it began.
    const see = (now, frame) => {
      if (!this.track) return;
      video.requestVideoFrameCallback(see);
      // When it was taken, by this page's clock; where a browser does not say, when it was handed over.
      const taken = frame.captureTime ?? now;
      onPicture({ video, width: frame.width, height: frame.height, taken_us: Math.round(1000 * taken), epoch_us: Math.round(1000 * (performance.timeOrigin + taken)) });
    };
    video.requestVideoFrameCallback(see);
  }

  close() {
    const { track } = this;
    this.track = null;
    track?.stop();
    this.video.srcObject = null;
  }
}
