// Files: what a person drops, chooses or pastes comes in, one Transfer for each goes out, with a way to try it again.

import { Problem, upload } from "../api";
import { byId, bytes } from "../dom";
import { fill, text } from "../text";
import { tell } from "../trouble";
import { Pace, left } from "./progress";
import { type Transfer, type Transfers, isLost, once } from "./transfers";

export class Files {
  #transfers: Transfers;
  #most = Number(document.body.dataset.maxUploadBytes);

  constructor(transfers: Transfers) {
    this.#transfers = transfers;
    const input = byId<HTMLInputElement>("file");
    input.addEventListener("change", () => {
      this.take([...(input.files ?? [])]);
      input.value = "";
    });
  }

  take(files: File[]): void {
    const fit = files.filter((file) => {
      if (file.size <= this.#most) return true;
      const detail = fill(text.videos.too_large, { size: bytes(file.size), most: bytes(this.#most) });
      tell(new Problem({ type: "urn:undercurrent:problem:upload-too-large", title: text.videos.exceeds, detail }), { about: file.name });
      return false;
    });
    if (fit.length) this.#transfers.add(fit.map((file) => this.#transfer(file, once())));
  }

  #transfer(file: File, key: string): Transfer {
    return {
      name: file.name,
      lane: "file",
      begin: (line) => {
        const pace = new Pace();
        line(text.videos.sending, 0);
        return upload(file, (share) => {
          pace.saw(share * file.size);
          const of = fill(text.videos.sent, { n: Math.floor(share * 100), all: bytes(file.size) });
          line(share < 1 ? [of, left(pace.left(file.size))].filter(Boolean).join(", ") : text.videos.checking, share < 1 ? share : null);
        }, key);
      },
      failed: (problem) => {
        const shown = isLost(problem) ? new Problem({ title: text.videos.upload_lost, detail: text.videos.upload_lost_more }) : problem;
        tell(shown, { about: file.name, again: isRepeatable(problem) ? () => this.#transfers.add([this.#transfer(file, key)]) : undefined });
      },
    };
  }
}

// Whether another try may end otherwise: not when the file is what was refused.
function isRepeatable(problem: unknown): boolean {
  const status = problem instanceof Problem ? problem.status : undefined;
  return status === undefined || status >= 500 || status === 408 || status === 429;
}

// Drops anywhere on the page: files go to `onFiles`, a dragged link to `onAddress`; a folder is neither.
export function watchDrops(onFiles: (files: File[]) => void, onAddress: (address: string) => void): void {
  const mark = byId("drop");
  for (const kind of ["dragover", "dragleave", "drop"] as const) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      mark.classList.toggle("over", kind === "dragover");
      if (kind !== "drop" || !event.dataTransfer) return;
      const { items, files } = event.dataTransfer;
      const folders = [...items].map((item) => item.webkitGetAsEntry?.()?.isDirectory ?? false);
      if (folders.some(Boolean)) tell(new Problem({ title: text.videos.folder, detail: text.videos.folder_more }));
      const dropped = [...files].filter((_file, n) => !folders[n]);
      if (dropped.length) onFiles(dropped);
      else if (!folders.some(Boolean)) onAddress(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
    });
  }
}
