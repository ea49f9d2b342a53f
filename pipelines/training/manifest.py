"""The list of real media that may be trained on: a manifest file in, checked records and an identity-disjoint split out.

A manifest is a JSON list of records with at least `file`, `kind` (video | image) and `tier`; `identity`, `repo` and `sha256` help. Only
the tiers whose licence allows it reach training; asking for another is an error here, in one place, not a convention.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipelines.errors import SourceNotFound, UnsupportedMedia

TRAINING_TIERS: Final = ("open", "published")
Split = Literal["train", "holdout"]
HOLDOUT_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Record:
    """One file of the manifest."""

    file: str
    path: Path
    kind: Literal["video", "image"]
    tier: str
    label: str
    identity: str
    source: str
    sha256: str
    method: str | None
    people: int


def read_manifest(path: Path) -> list[Record]:
    """Read every record of the manifest at `path`; files are relative to its directory."""
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SourceNotFound(f"There is no manifest at {path}.", expected="a JSON manifest", got="no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnsupportedMedia(f"{path} is not a manifest.", expected="a JSON list of records", got=str(error)) from error
    return [_record(row, path) for row in rows]


def for_training(records: Iterable[Record], *, tiers: tuple[str, ...] = TRAINING_TIERS) -> list[Record]:
    """The records that a shipped weight may learn from; refuses any tier outside TRAINING_TIERS."""
    refused = sorted(set(tiers) - set(TRAINING_TIERS))
    if refused:
        raise UnsupportedMedia("These tiers may not be trained on.", expected=" or ".join(TRAINING_TIERS), got=", ".join(refused))
    return [record for record in records if record.tier in tiers and record.label == "real"]


def split_of(record: Record) -> Split:
    """`train` or `holdout`, by identity alone: stable when files are added, and no person is on both sides."""
    digest = hashlib.sha256(f"undercurrent-1:{record.identity}".encode()).digest()
    return "holdout" if digest[0] / 256 < HOLDOUT_SHARE else "train"


def digest(records: Iterable[Record]) -> str:
    """One sha256 over the files' digests: which data a checkpoint saw."""
    total = hashlib.sha256()
    for line in sorted(f"{record.file} {record.sha256}\n" for record in records):
        total.update(line.encode())
    return total.hexdigest()


def _record(row: dict[str, object], manifest: Path) -> Record:
    missing = [key for key in ("file", "kind", "tier") if not isinstance(row.get(key), str)]
    if missing:
        raise UnsupportedMedia(f"A record of {manifest} is incomplete.", expected="file, kind and tier", got=f"no {', '.join(missing)}")
    file = str(row["file"])
    people = row.get("people")
    return Record(
        file=file,
        path=manifest.parent / file,
        kind="image" if row["kind"] == "image" else "video",
        tier=str(row["tier"]),
        label=str(row.get("label") or "real"),
        identity=str(row.get("identity") or row.get("group") or file),
        source=str(row.get("repo") or ""),
        sha256=str(row.get("sha256") or ""),
        method=str(row["method"]) if row.get("method") else None,
        people=people if isinstance(people, int) else 1,
    )
