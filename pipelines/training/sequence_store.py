"""Sequences on disk: what the frozen eye saw of many clips, in one .npz without pickle. Written and read by `stages.py` and evaluation."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.training.sequences import Sequence

FORMAT: Final = 2
"""2: embeddings in parts, of no fixed length."""
_PER_FRAME: Final = ("t", "embedding", "artefact", "frame_label")


def save_sequences(path: Path, sequences: list[Sequence]) -> None:
    """Write `sequences` to `path`: arrays end to end, and where each begins. Whole or not at all."""
    arrays = {name: np.concatenate([getattr(one, name) for one in sequences]) for name in _PER_FRAME}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(
            file,
            format=np.array(FORMAT),
            length=np.array([len(one.t) for one in sequences]),
            label=np.array([one.label for one in sequences]),
            identity=np.array([one.identity for one in sequences]),
            kind=np.array([one.kind for one in sequences]),
            **arrays,  # type: ignore[arg-type]  # numpy's stub takes any keyword for allow_pickle
        )
    part.replace(path)


def load_sequences(path: Path) -> list[Sequence]:
    """Read what `save_sequences` wrote.

    Raises:
        SourceNotFound: there is no such file.
        UnsupportedMedia: it is broken, or another file.
    """
    expected = "a file of sequences that `undercurrent train run` wrote"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            if "format" not in data or int(data["format"]) != FORMAT:
                raise UnsupportedMedia(
                    f"{path.name} holds no sequences.", expected=expected, got=f"arrays {', '.join(data.files) or 'none'}"
                )
            found: dict[str, NDArray[np.generic]] = {name: data[name] for name in data.files}
    except FileNotFoundError as error:
        raise SourceNotFound(f"{path.name} is missing.", expected=expected, got=f"no {path}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnsupportedMedia(f"{path.name} holds no sequences.", expected=expected, got=str(error)) from error
    ends = np.cumsum(found["length"])
    if any(len(found[name]) != int(ends[-1]) for name in _PER_FRAME):
        raise UnsupportedMedia(f"{path.name} is broken.", expected=f"{ends[-1]} moments in every array", got="other lengths")
    parts = {name: np.split(found[name], ends[:-1]) for name in _PER_FRAME}
    return [
        Sequence(str(found["identity"][i]), int(found["label"][i]), str(found["kind"][i]), **{name: parts[name][i] for name in _PER_FRAME})
        for i in range(len(ends))
    ]
