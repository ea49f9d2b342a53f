"""The list of media that may be learnt from: a manifest file in, records and an identity-disjoint split of them out.

A manifest is a JSON list of records with at least `file`, `kind` (video | image) and `tier`; `label`, `identity`, `repo`, `sha256`,
`people` and `split` help. Or it is a CSV with the columns `path` and `label`, and any of CSV_COLUMNS. Only the tiers whose licence allows
it reach training; asking for another is an error here, in one place, not a convention. `manifest_checks.py` looks for all that is wrong
with a manifest, `own_footage.py` makes one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from pipelines.errors import ManifestError, MissingMedia, SourceNotFound, UnsupportedMedia

Split = Literal["train", "holdout"]

TRAINING_TIERS: Final = ("open", "published")
"""What a weight that we ship may learn from."""
OWN_TIER: Final = "own"
"""A user's own footage: their weights may learn from it, ours never see it."""
TRAINABLE_TIERS: Final = (*TRAINING_TIERS, OWN_TIER)
LABELS: Final = ("real", "fake")
KINDS: Final = ("video", "image")
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
CSV_COLUMNS: Final = ("path", "label", "method", "identity", "split", "source", "tier", "kind", "sha256", "people")
IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
HOLDOUT_SHARE: Final = 0.2
NAMED_AT_MOST: Final = 10
"""How many names a refusal spells out; `check` spells out all of them."""


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
    split: Split | None = None
    """Which side the manifest puts it on; None leaves it to `split_of`."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that is no record: where it stands with the file it names, and what is wrong with it."""

    name: str
    detail: str


def read_manifest(path: Path) -> list[Record]:
    """Read every record of the manifest at `path` (.csv, else JSON); files are relative to its directory.

    Raises:
        SourceNotFound: there is no such file. ManifestError: it is no manifest, or some records are malformed; these are named.
    """
    records, malformed = read_rows(path)
    if malformed:
        raise ManifestError(
            f"{path} has {len(malformed)} malformed record(s).",
            expected=f"file and tier, kind {' or '.join(KINDS)}, label {' or '.join(LABELS)}, split {' or '.join(SPLITS)} if any",
            got=some_of([f"{row.name}: {row.detail}" for row in malformed]),
        )
    return records


def read_rows(path: Path) -> tuple[list[Record], list[Malformed]]:
    """What `read_manifest` reads, with the malformed rows beside the records instead of a refusal.

    Raises:
        SourceNotFound: there is no such file. ManifestError: it is no manifest at all.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except FileNotFoundError as error:
        raise SourceNotFound(f"There is no manifest at {path}.", expected="a JSON or CSV manifest", got="no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not a manifest.", expected="a readable text file in UTF-8", got=str(error)) from error
    rows, malformed = _csv_rows(text, path) if path.suffix.lower() == ".csv" else (_json_rows(text, path), [])
    records = []
    for where, row in rows:
        parsed = _parse(row, path)
        if isinstance(parsed, Record):
            records.append(parsed)
        else:
            name = row.get("file") if isinstance(row, dict) else None
            malformed.append(Malformed(f"{where} ({name or 'no file'})", parsed))
    return records, malformed


def for_training(records: Iterable[Record], *, tiers: tuple[str, ...] = TRAINING_TIERS) -> list[Record]:
    """The real records of `tiers`; refuses a tier that may not be trained on, and a person whom the manifest puts on both sides.

    The default is what a shipped weight may learn from; a user's `own` footage is taken where it is asked for by name.
    """
    refused = sorted(set(tiers) - set(TRAINABLE_TIERS))
    if refused:
        raise UnsupportedMedia("These tiers may not be trained on.", expected=" or ".join(TRAINABLE_TIERS), got=", ".join(refused))
    chosen = [record for record in records if record.tier in tiers and record.label == "real"]
    if torn := on_both_sides(chosen):
        raise ManifestError(
            f"The manifest puts {len(torn)} identity(ies) on both sides of the split.",
            expected="every person in `train` or in `holdout`",
            got=some_of([f"{name} ({detail})" for name, detail in torn.items()]),
        )
    return chosen


def present(records: Iterable[Record], *, skip_missing: bool = False, on_missing: Callable[[Record], None] | None = None) -> list[Record]:
    """The records whose file is there. Refuses when one is not, unless `skip_missing`; `on_missing` hears of each that is left out.

    Raises:
        MissingMedia: files are missing, the first ten by name; or all of them are, which is nothing to go on with.
    """
    asked = list(records)
    missing = [record for record in asked if not record.path.is_file()]
    if missing and (not skip_missing or len(missing) == len(asked)):
        raise MissingMedia(
            f"{len(missing)} of the manifest's {len(asked)} file(s) are missing.",
            expected="every file in its place, or --skip-missing and at least one",
            got=some_of([record.file for record in missing]),
        )
    if on_missing is not None:
        for record in missing:
            on_missing(record)
    gone = set(missing)
    return [record for record in asked if record not in gone]


def split_of(record: Record) -> Split:
    """What the record says, else `train` or `holdout` by identity alone: stable when files are added, no person on both sides."""
    if record.split is not None:
        return record.split
    return "holdout" if lot(record.identity) < HOLDOUT_SHARE else "train"


def lot(identity: str) -> float:
    """A number in [0, 1) that belongs to the name."""
    return hashlib.sha256(f"undercurrent-1:{identity}".encode()).digest()[0] / 256


def on_both_sides(records: Sequence[Record]) -> dict[str, str]:
    """People in both halves of the split, with a file of each."""
    of: dict[str, dict[Split, str]] = {}
    for record in records:
        for person in persons(record):
            of.setdefault(person, {}).setdefault(split_of(record), record.file)
    return {person: f"train: {files['train']}, holdout: {files['holdout']}" for person, files in of.items() if len(files) > 1}


def persons(record: Record) -> list[str]:
    """The people in a record: `anna+ben` with two people is both of them, so that neither hides behind the pair."""
    return record.identity.split("+") if record.people > 1 else [record.identity]


def digest(records: Iterable[Record]) -> str:
    """One sha256 over the files' digests: which data a checkpoint saw."""
    total = hashlib.sha256()
    for line in sorted(f"{record.file} {record.sha256}\n" for record in records):
        total.update(line.encode())
    return total.hexdigest()


def some_of(names: Sequence[str]) -> str:
    """The first NAMED_AT_MOST of `names` and how many more there are, for a message."""
    rest = len(names) - NAMED_AT_MOST
    return "; ".join(names[:NAMED_AT_MOST]) + (f"; and {rest} more" if rest > 0 else "")


def _json_rows(text: str, path: Path) -> list[tuple[str, object]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{path} is not a manifest.", expected="a JSON list of records", got=str(error)) from error
    if not isinstance(rows, list):
        raise ManifestError(f"{path} is not a manifest.", expected="a JSON list of records", got=f"a JSON {type(rows).__name__}")
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


def _csv_rows(text: str, path: Path) -> tuple[list[tuple[str, object]], list[Malformed]]:
    """Rows of a CSV in the words of the JSON, and those with too few or too many cells; their number is the line in the file."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    wanted = f"a header with path and label, and any of {', '.join(CSV_COLUMNS[2:])}"
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        # A column that nobody reads is as likely a misspelt `identity`, without which one person lands on both sides.
        strange = sorted(set(columns) - set(CSV_COLUMNS)) + sorted({f"{name} twice" for name in columns if columns.count(name) > 1})
        lacking = [name for name in ("path", "label") if name not in columns]
        if strange or lacking:
            got = "; ".join([f"no {name}" for name in lacking] + [f"column {name!r}" for name in strange])
            raise ManifestError(f"{path} is not a manifest.", expected=wanted, got=got)
        reader.fieldnames = columns
        rows: list[tuple[str, object]] = []
        malformed = []
        for row in reader:
            cells: dict[str, object] = {name: cell.strip() for name, cell in row.items() if isinstance(cell, str) and cell.strip()}
            if None in row or None in row.values():  # how csv says that cells are left over, or lacking
                name = f"row {reader.line_num} ({cells.get('path', 'no file')})"
                malformed.append(Malformed(name, f"it has not the header's {len(columns)} cells"))
                continue
            file = str(cells.pop("path", ""))
            cells.setdefault("label", "")
            cells.setdefault("tier", OWN_TIER)
            cells.setdefault("kind", "image" if Path(file).suffix.lower() in IMAGE_SUFFIXES else "video")
            people = str(cells.pop("people", "1"))
            cells["people"] = int(people) if people.isdecimal() else people
            rows.append((f"row {reader.line_num}", {"file": file or None, "repo": cells.pop("source", ""), **cells}))
        return rows, malformed
    except csv.Error as error:
        raise ManifestError(f"{path} is not a manifest.", expected=wanted, got=f"line {reader.line_num}: {error}") from error


def _parse(row: object, manifest: Path) -> Record | str:
    """The record of a row, or what is wrong with it."""
    if not isinstance(row, dict):
        return f"expected a record, got {json.dumps(row)[:60]}"
    missing = [key for key in ("file", "kind", "tier") if not isinstance(row.get(key), str) or not row[key]]
    if missing:
        return f"no {', '.join(missing)}"
    label, people, split = row.get("label"), row.get("people"), row.get("split")
    label = "real" if label is None else label
    for name, value, allowed in (("label", label, LABELS), ("kind", row["kind"], KINDS), ("split", split, (*SPLITS, None))):
        if value not in allowed:
            return f"{name} {value!r}, expected {' or '.join(one for one in allowed if one)}"
    if people is not None and (not isinstance(people, int) or isinstance(people, bool) or people < 0):
        return f"people {people!r}, expected a whole number"
    file = str(row["file"])
    return Record(
        file=file,
        path=manifest.parent / file,
        kind="image" if row["kind"] == "image" else "video",
        tier=str(row["tier"]),
        label=str(label),
        identity=str(row.get("identity") or row.get("group") or file),
        source=str(row.get("repo") or ""),
        sha256=str(row.get("sha256") or "").lower(),
        method=str(row["method"]) if row.get("method") else None,
        people=1 if people is None else people,
        split=split,
    )
