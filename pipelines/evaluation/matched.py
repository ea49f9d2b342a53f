"""Both sides through one more encoder: records in, records of worn copies out. Used by `evaluate --wear`.

Fakes have usually been compressed once more than their originals. Where real and fake are encoded alike once again, that difference is
small against what both have lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pipelines.errors import PipelineError, UnsupportedMedia
from pipelines.training.manifest import Record
from pipelines.training.reencode import reencode_file


@dataclass(frozen=True, slots=True)
class Worn:
    """What is done to every file."""

    crf: int = 23
    """Of H.264."""
    scale: float = 1.0
    drop: float = 0.0
    """Share of the pictures left out; the others keep their true times."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`crf=35,scale=0.5,drop=0.5`, in any order, each at most once.

        Raises:
            UnsupportedMedia: it is anything else.
        """
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in ("crf", "scale", "drop") or name in values:
                raise UnsupportedMedia("This wear is not known.", expected="crf=0..51, scale=0..1, drop=0..1, each once", got=part)
            try:
                values[name] = float(value)
            except ValueError as error:
                raise UnsupportedMedia("This wear is not known.", expected=f"a number for {name}", got=value or "nothing") from error
        made = cls(int(values.get("crf", 23)), values.get("scale", 1.0), values.get("drop", 0.0))
        if not (0 <= made.crf <= 51 and 0 < made.scale <= 1 and 0 <= made.drop < 1):
            raise UnsupportedMedia("This wear is out of range.", expected="crf 0 to 51, scale above 0 to 1, drop 0 to below 1", got=text)
        return made


def worn_records(records: list[Record], worn: Worn, folder: Path, *, on_record: Callable[[int], None] | None = None) -> list[Record]:
    """Write a copy of every video into `folder`; one that cannot be read keeps its record, to be counted when judged."""
    copies = []
    for number, record in enumerate(records, start=1):
        out = folder / f"{number:05d}.mkv"
        try:
            reencode_file(record.path, out, quality=worn.crf, scale=worn.scale, drop=worn.drop, seed=number)
            copies.append(replace(record, path=out))
        except PipelineError:
            copies.append(record)
        if on_record is not None:
            on_record(number)
    return copies
