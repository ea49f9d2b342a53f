"""What is wrong with a manifest: records in, every fault by name, remarks and counts out. Asked by `undercurrent train check`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipelines.training.manifest import KINDS, LABELS, SPLITS, TRAINABLE_TIERS, Record, on_both_sides, persons, read_rows, split_of

FaultKind = Literal[
    "malformed record", "missing file", "wrong sha256", "unknown value", "duplicate", "identity under both labels", "identity on both sides"
]
TIERS: Final = (*TRAINABLE_TIERS, "study", "validation")


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
    faults += [Fault("identity on both sides", name, detail) for name, detail in on_both_sides(training).items()]
    return ManifestReport(len(listed), tuple(faults), _notes(listed, training), _tallies(listed))


def check_manifest(path: Path, *, hashes: bool = False, on_file: Callable[[int, Record], None] | None = None) -> ManifestReport:
    """`check` of a file, malformed records included: they are named among the faults and left out of everything else."""
    records, malformed = read_rows(path)
    report = check(records, hashes=hashes, on_file=on_file)
    faults = (*(Fault("malformed record", row.name, row.detail) for row in malformed), *report.faults)
    return ManifestReport(report.records + len(malformed), faults, report.notes, report.tallies)


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
