// Server-sent events by `fetch`: an address comes in, its events go out one by one. EventSource tells neither why it was refused nor, once
// it was, goes on where it left; this does both.

export interface ServerEvent {
  kind: string;
  data: string;
  id: string | null;
}

// Raises what `fetch` raises when the connection breaks, and ends when the service ends it.
export async function* eventsOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<ServerEvent> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop() ?? "";
    for (const frame of frames) {
      const event = parsed(frame);
      if (event) yield event;
    }
  }
}

// A frame without data is a comment that keeps the connection alive.
function parsed(frame: string): ServerEvent | null {
  let [kind, id]: [string, string | null] = ["message", null];
  const data: string[] = [];
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(":");
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    if (name === "event") kind = value;
    else if (name === "id") id = value;
    else if (name === "data") data.push(value);
  }
  return data.length ? { kind, data: data.join("\n"), id } : null;
}
