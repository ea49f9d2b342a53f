"""Manifests for tests: rows in, records out, whose files hold their own names; and names of people whose side is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.training.manifest import Record, read_manifest, split_of

Row = Mapping[str, object]


def write_manifest(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def records_of(folder: Path, *rows: Row, make: bool = True) -> list[Record]:
    """Records of `rows`, whose files hold their own names unless `make` is off."""
    whole: list[Row] = [{"kind": "video", "tier": "open", **row} for row in rows]
    for row in whole if make else ():
        (folder / str(row["file"])).write_text(str(row["file"]))
    return read_manifest(write_manifest(folder / "m.json", whole))


def side_of(identity: str) -> str:
    """The side on which the lot puts somebody of this name."""
    return split_of(Record("", Path(), "video", "open", "real", identity, "", "", None, 1))


def name_on(side: str, taken: str = "") -> str:
    """A name on that side; `taken` ends it, for a second one."""
    return next(name for name in (f"person {number}{taken}" for number in range(1000)) if side_of(name) == side)
