"""A manifest of a user's own footage: a folder of real media in, rows for a manifest file out. Written by `undercurrent train manifest`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from pipelines.errors import ManifestError, PipelineError, SourceNotFound, StillImage
from pipelines.frames import read_frames
from pipelines.training.manifest import HOLDOUT_SHARE, OWN_TIER, lot, some_of

IdentityFrom = Literal["parent", "stem"]


@dataclass(frozen=True, slots=True)
class OwnManifest:
    """A manifest of a user's footage: its rows, the files that are no media with the reason, and what to know of its split."""

    rows: tuple[dict[str, str | int], ...]
    skipped: tuple[tuple[str, str], ...]
    people: tuple[str, ...]
    notes: tuple[str, ...]


def manifest_of(folder: Path, out: Path, *, identity_from: IdentityFrom, on_file: Callable[[Path], None] | None = None) -> OwnManifest:
    """Records of the real footage under `folder`, of tier `own`, for a manifest to be written at `out`; nothing is written here.

    Every file is opened, so that what is no media is known now and not after hours of training. `parent`: the folder that holds a file
    names its person; `stem`: the file's own name does, which is right only where nobody appears in two files of different names.
    """
    if not folder.is_dir():
        raise SourceNotFound(f"There is no folder {folder}.", expected="a folder of videos or pictures", got="no such folder")
    rows: list[dict[str, str | int]] = []
    skipped: list[tuple[str, str]] = []
    base = out.absolute().parent
    for path in sorted(folder.absolute().rglob("*")):
        if path.is_dir() or path == out.absolute():
            continue
        if on_file is not None:
            on_file(path)
        kind, reason = _kind_of(path)
        if kind is None:
            skipped.append((str(path.relative_to(folder.absolute())), reason))
            continue
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        rows.append(
            {
                "file": Path(os.path.relpath(path, base)).as_posix(),
                "kind": kind,
                "tier": OWN_TIER,
                "label": "real",
                "identity": path.parent.name if identity_from == "parent" else path.stem,
                "people": 1,
                "repo": folder.absolute().name,
                "licence": "yours",
                "sha256": sha256,
            }
        )
    if not rows:
        raise ManifestError(
            f"Nothing under {folder} can be trained on.",
            expected="at least one video or picture",
            got=some_of([f"{name} ({reason})" for name, reason in skipped]) if skipped else "an empty folder",
        )
    people = sorted({str(row["identity"]) for row in rows})
    return OwnManifest(tuple(rows), tuple(skipped), tuple(people), _divide(rows, people))


def _divide(rows: list[dict[str, str | int]], people: list[str]) -> tuple[str, ...]:
    """Write a split into `rows` where the lot by name leaves a side empty, which it does for few people. Returns what to tell of it."""
    if len(people) < 2:
        return (
            "There is one person only, so nobody can be held out: training needs at least two. Give each person a folder of their own "
            "and use --identity-from parent.",
        )
    held = {name for name in people if lot(name) < HOLDOUT_SHARE}
    if held and len(held) < len(people):
        return ()
    chosen = set(sorted(people, key=lot)[: max(1, round(HOLDOUT_SHARE * len(people)))])
    for row in rows:
        row["split"] = "holdout" if row["identity"] in chosen else "train"
    return (f"The lot put everybody on one side, so the manifest names the split itself: {some_of(sorted(chosen))} held out.",)


def _kind_of(path: Path) -> tuple[Literal["video", "image"] | None, str]:
    """What a file turns out to be when it is opened, or why it is neither video nor picture."""
    try:
        with read_frames(path, hz=None) as source:
            for _ in source:
                return "video", ""
        return None, "not one frame"
    except StillImage:
        return ("image", "") if cv2.imread(str(path), cv2.IMREAD_COLOR) is not None else (None, "a picture that cannot be decoded")
    except PipelineError as error:
        return None, error.detail
