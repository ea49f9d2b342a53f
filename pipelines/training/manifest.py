"""The list of media that may be learnt from: a manifest file in, checked records and an identity-disjoint split out.

A manifest is a JSON list of records with at least `file`, `kind` (video | image) and `tier`; `label`, `identity`, `repo`, `sha256`,
`people` and `split` help. Or it is a CSV with the columns `path` and `label`, and any of CSV_COLUMNS. Only the tiers whose licence allows
it reach training; asking for another is an error here, in one place, not a convention.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import cv2

from pipelines.errors import ManifestError, MissingMedia, PipelineError, SourceNotFound, StillImage, UnsupportedMedia
from pipelines.frames import read_frames

Split = Literal["train", "holdout"]
IdentityFrom = Literal["parent", "stem"]
FaultKind = Literal[
    "malformed record", "missing file", "wrong sha256", "unknown value", "duplicate", "identity under both labels", "identity on both sides"
]

TRAINING_TIERS: Final = ("open", "published")
"""What a weight that we ship may learn from."""
OWN_TIER: Final = "own"
"""A user's own footage: their weights may learn from it, ours never see it."""
TRAINABLE_TIERS: Final = (*TRAINING_TIERS, OWN_TIER)
TIERS: Final = (*TRAINABLE_TIERS, "study", "validation")
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
class Fault:
    """One thing that is wrong with a manifest, and the record that has it."""

    kind: FaultKind
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of one tier and label there is, in files and in people: people are what an interval is worth."""

    tier: str
    label: str
    videos: int
    images: int
    people: int
    train_people: int
    holdout_people: int


@dataclass(frozen=True, slots=True)
class ManifestReport:
    """What `check` found: faults by name, remarks that forbid nothing, and counts."""

    records: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    tallies: tuple[Tally, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def of(self, kind: FaultKind) -> tuple[Fault, ...]:
        """The faults of one kind."""
        return tuple(fault for fault in self.faults if fault.kind == kind)


@dataclass(frozen=True, slots=True)
class OwnManifest:
    """A manifest of a user's footage: its rows, the files that are no media with the reason, and what to know of its split."""

    rows: tuple[dict[str, str | int], ...]
    skipped: tuple[tuple[str, str], ...]
    people: tuple[str, ...]
    notes: tuple[str, ...]


def read_manifest(path: Path) -> list[Record]:
    """Read every record of the manifest at `path` (.csv, else JSON); files are relative to its directory.

    Raises:
        SourceNotFound: there is no such file. ManifestError: it is no manifest, or some records are malformed; these are named.
    """
    records, faults = _read(path)
    if faults:
        raise ManifestError(
            f"{path} has {len(faults)} malformed record(s).",
            expected=f"file and tier, kind {' or '.join(KINDS)}, label {' or '.join(LABELS)}, split {' or '.join(SPLITS)} if any",
            got=_some([f"{fault.name}: {fault.detail}" for fault in faults]),
        )
    return records


def for_training(records: Iterable[Record], *, tiers: tuple[str, ...] = TRAINING_TIERS) -> list[Record]:
    """The real records of `tiers`; refuses a tier that may not be trained on, and a person whom the manifest puts on both sides.

    The default is what a shipped weight may learn from; a user's `own` footage is taken where it is asked for by name.
    """
    refused = sorted(set(tiers) - set(TRAINABLE_TIERS))
    if refused:
        raise UnsupportedMedia("These tiers may not be trained on.", expected=" or ".join(TRAINABLE_TIERS), got=", ".join(refused))
    chosen = [record for record in records if record.tier in tiers and record.label == "real"]
    if torn := _on_both_sides(chosen):
        raise ManifestError(
            f"The manifest puts {len(torn)} identity(ies) on both sides of the split.",
            expected="every person in `train` or in `holdout`",
            got=_some([f"{name} ({detail})" for name, detail in torn.items()]),
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
            got=_some([record.file for record in missing]),
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
    return "holdout" if _lot(record.identity) < HOLDOUT_SHARE else "train"


def digest(records: Iterable[Record]) -> str:
    """One sha256 over the files' digests: which data a checkpoint saw."""
    total = hashlib.sha256()
    for line in sorted(f"{record.file} {record.sha256}\n" for record in records):
        total.update(line.encode())
    return total.hexdigest()


def persons(record: Record) -> list[str]:
    """The people in a record: `anna+ben` with two people is both of them, so that neither hides behind the pair."""
    return record.identity.split("+") if record.people > 1 else [record.identity]


def check(records: Iterable[Record], *, hashes: bool = False, on_file: Callable[[int, Record], None] | None = None) -> ManifestReport:
    """Everything that is wrong with `records`, by name. `hashes` reads every file; `on_file` hears (number, record) before each."""
    listed = list(records)
    faults = [*_unknown(listed), *(Fault("missing file", one.file, str(one.path)) for one in listed if not one.path.is_file())]
    found = {record: record.sha256 for record in listed}
    if hashes:
        for number, record in enumerate(listed, start=1):
            if on_file is not None:
                on_file(number, record)
            if record.path.is_file():
                with record.path.open("rb") as file:
                    found[record] = hashlib.file_digest(file, "sha256").hexdigest()
                if record.sha256 and record.sha256 != found[record]:
                    faults.append(Fault("wrong sha256", record.file, f"expected {record.sha256}; got {found[record]}"))
    faults += _duplicates(listed, found)
    faults += _both_labels(listed)
    training = [record for record in listed if record.tier in TRAINABLE_TIERS and record.label == "real"]
    faults += [Fault("identity on both sides", name, detail) for name, detail in _on_both_sides(training).items()]
    return ManifestReport(len(listed), tuple(faults), _notes(listed, training), _tallies(listed))


def check_manifest(path: Path, *, hashes: bool = False, on_file: Callable[[int, Record], None] | None = None) -> ManifestReport:
    """`check` of a file, malformed records included: they are named among the faults and left out of everything else."""
    records, faults = _read(path)
    report = check(records, hashes=hashes, on_file=on_file)
    return ManifestReport(report.records + len(faults), (*faults, *report.faults), report.notes, report.tallies)


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
            got=_some([f"{name} ({reason})" for name, reason in skipped]) if skipped else "an empty folder",
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
    held = {name for name in people if _lot(name) < HOLDOUT_SHARE}
    if held and len(held) < len(people):
        return ()
    chosen = set(sorted(people, key=_lot)[: max(1, round(HOLDOUT_SHARE * len(people)))])
    for row in rows:
        row["split"] = "holdout" if row["identity"] in chosen else "train"
    return (f"The lot put everybody on one side, so the manifest names the split itself: {_some(sorted(chosen))} held out.",)


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


def _read(path: Path) -> tuple[list[Record], list[Fault]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except FileNotFoundError as error:
        raise SourceNotFound(f"There is no manifest at {path}.", expected="a JSON or CSV manifest", got="no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not a manifest.", expected="a readable text file in UTF-8", got=str(error)) from error
    rows, faults = _csv_rows(text, path) if path.suffix.lower() == ".csv" else (_json_rows(text, path), [])
    records = []
    for where, row in rows:
        parsed = _parse(row, path)
        if isinstance(parsed, Record):
            records.append(parsed)
        else:
            name = row.get("file") if isinstance(row, dict) else None
            faults.append(Fault("malformed record", f"{where} ({name or 'no file'})", parsed))
    return records, faults


def _json_rows(text: str, path: Path) -> list[tuple[str, object]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{path} is not a manifest.", expected="a JSON list of records", got=str(error)) from error
    if not isinstance(rows, list):
        raise ManifestError(f"{path} is not a manifest.", expected="a JSON list of records", got=f"a JSON {type(rows).__name__}")
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


def _csv_rows(text: str, path: Path) -> tuple[list[tuple[str, object]], list[Fault]]:
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
        faults = []
        for row in reader:
            cells: dict[str, object] = {name: cell.strip() for name, cell in row.items() if isinstance(cell, str) and cell.strip()}
            if None in row or None in row.values():  # how csv says that cells are left over, or lacking
                name = f"row {reader.line_num} ({cells.get('path', 'no file')})"
                faults.append(Fault("malformed record", name, f"it has not the header's {len(columns)} cells"))
                continue
            file = str(cells.pop("path", ""))
            cells.setdefault("label", "")
            cells.setdefault("tier", OWN_TIER)
            cells.setdefault("kind", "image" if Path(file).suffix.lower() in IMAGE_SUFFIXES else "video")
            people = str(cells.pop("people", "1"))
            cells["people"] = int(people) if people.isdecimal() else people
            rows.append((f"row {reader.line_num}", {"file": file or None, "repo": cells.pop("source", ""), **cells}))
        return rows, faults
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


def _unknown(records: Sequence[Record]) -> list[Fault]:
    return [
        Fault("unknown value", record.file, f"{name} {value!r}, expected {' or '.join(known)}")
        for record in records
        for name, value, known in (("kind", record.kind, KINDS), ("label", record.label, LABELS), ("tier", record.tier, TIERS))
        if value not in known
    ]


def _duplicates(records: Sequence[Record], sha256: dict[Record, str]) -> list[Fault]:
    """One content under two names, two labels or twice over: it would have two votes, or contradict itself."""
    of: dict[str, list[Record]] = {}
    for record in records:
        of.setdefault(sha256[record] or record.file, []).append(record)
    faults = []
    for same in of.values():
        if len(same) > 1:
            names = list(dict.fromkeys(record.file for record in same))
            labels = sorted({record.label for record in same})
            detail = f"the same content as {', '.join(names[1:])}" if len(names) > 1 else f"listed {len(same)} times"
            faults.append(Fault("duplicate", names[0], detail + (f", labelled {' and '.join(labels)}" if len(labels) > 1 else "")))
    return faults


def _both_labels(records: Sequence[Record]) -> list[Fault]:
    """People under both labels, unless all of it is `validation`, where the real video of the same scene is the point."""
    of: dict[str, list[Record]] = {}
    for record in records:
        for person in persons(record):
            of.setdefault(person, []).append(record)
    faults = []
    for person, theirs in of.items():
        if {record.label for record in theirs} >= set(LABELS) and any(record.tier != "validation" for record in theirs):
            first = {label: next(record.file for record in theirs if record.label == label) for label in LABELS}
            detail = f"real in {first['real']}, fake in {first['fake']}; a pair of the same scene belongs to tier validation"
            faults.append(Fault("identity under both labels", person, detail))
    return faults


def _on_both_sides(records: Sequence[Record]) -> dict[str, str]:
    """People in both halves of the split, with a file of each."""
    of: dict[str, dict[Split, str]] = {}
    for record in records:
        for person in persons(record):
            of.setdefault(person, {}).setdefault(split_of(record), record.file)
    return {person: f"train: {files['train']}, holdout: {files['holdout']}" for person, files in of.items() if len(files) > 1}


def _notes(records: Sequence[Record], training: Sequence[Record]) -> tuple[str, ...]:
    notes = []
    labels = {record.label for record in records}
    if not records:
        notes.append("There is no record.")
    if labels == {"real"}:
        notes.append("All is real: right for training, which makes its own fakes; `evaluate` can tell false positives, and no AUC.")
    if labels == {"fake"}:
        notes.append("All is fake: training uses none of it, and `evaluate` can tell how many are found, and no AUC.")
    if training and (empty := sorted(set(SPLITS) - {split_of(record) for record in training})):
        notes.append(f"Nobody is on the side {' or '.join(empty)}: training needs people on both; a `split` in the records can say so.")
    if training and not any(record.kind == "video" for record in training):
        notes.append("There are pictures only: the eye can learn from them, the memory needs video.")
    if anonymous := sum(record.identity == record.file for record in training):
        notes.append(f"{anonymous} record(s) name no identity: each is taken for a person of its own.")
    return tuple(notes)


def _tallies(records: Sequence[Record]) -> tuple[Tally, ...]:
    found = []
    for tier, label in sorted({(record.tier, record.label) for record in records}):
        some = [record for record in records if (record.tier, record.label) == (tier, label)]
        train, held = ({person for one in some if split_of(one) == side for person in persons(one)} for side in SPLITS)
        videos = sum(record.kind == "video" for record in some)
        found.append(Tally(tier, label, videos, len(some) - videos, len(train | held), len(train), len(held)))
    return tuple(found)


def _lot(identity: str) -> float:
    """A number in [0, 1) that belongs to the name."""
    return hashlib.sha256(f"undercurrent-1:{identity}".encode()).digest()[0] / 256


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_AT_MOST
    return "; ".join(names[:NAMED_AT_MOST]) + (f"; and {rest} more" if rest > 0 else "")
