"""Labelled media in the forms people keep them in: a folder, or a JSON of DeepfakeBench, in; Records and ways to read them out.

(Manifests are read by `pipelines/training/manifest.py`.) What is missing, contradicts itself or has no known label is refused by name:
a number over a set that is not what one thinks is worse than none.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np

from pipelines.errors import ManifestError, MissingMedia
from pipelines.frames import read_frames
from pipelines.media import Reader
from pipelines.training.manifest import Record, persons
from pipelines.training.reencode import write_pictures

MOST_NAMED: Final = 10
KNOWN_LABELS: Final = {
    "real": re.compile(r"(?i)(^|[-_])(real|youtube|actors|pristine|original)$"),
    "fake": re.compile(r"(?i)^(FF-(DF|F2F|FS|NT|FH)|.*[-_](fake|synthesis)([-_]?[A-Za-z0-9]+)?|DeepFakeDetection)$"),
}
"""Labels of DeepfakeBench's JSON files (FF-real, FF-DF, CelebDFv2_fake, DFDCP_FakeA ...); others must be mapped by hand."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A video that is kept as pictures: some of its frames, or all."""

    frames: tuple[Path, ...]
    fps: float

    @property
    def times(self) -> tuple[float, ...]:
        """Media seconds: the number in a picture's name over `fps`, because most sets keep every tenth frame or so.

        Where the names hold no such number, or hold it twice, the pictures are taken for neighbours.
        """
        numbers = [int(found.group()) if (found := re.search(r"\d+$", path.stem)) else None for path in self.frames]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers) or any(a >= b for a, b in pairwise(known)):
            known = list(range(len(numbers)))
        return tuple((number - known[0]) / self.fps for number in known)

    @property
    def reader(self) -> Reader:
        """Opens them, whatever path it is given."""
        return cast("Reader", self._read)

    @contextmanager
    def _read(self, _source: object, **options: Any) -> Iterator[Any]:  # noqa: ANN401  # what read_frames takes and gives
        """A Reader over them: written without loss as a video of their times, for whoever reads videos."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "pictures.mkv"
            write_pictures((_picture(path) for path in self.frames), self.times, out)
            with read_frames(out, **options) as source:
                yield source


def videos_in(folder: Path) -> list[Record]:
    """Records of `real/**` and `fake/**` below `folder`; a folder below `fake` names the method."""
    records = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and len(parts) >= 2 and parts[0] in ("real", "fake"):
            method = parts[1] if parts[0] == "fake" and len(parts) > 2 else parts[0]
            records.append(Record("/".join(parts), path, "video", "user", parts[0], path.stem, "", "", method, 1))
    return records


def read_deepfakebench(
    path: Path, root: Path, *, label_map: Mapping[str, str], split: str, fps: float
) -> tuple[list[Record], dict[str, Pictures]]:
    """Records and, by their `file`, pictures of `{dataset: {label: {split: [{compression:}] {video: {label, frames}}}}}`.

    A video's identity is the number before the underscore, as in FF++ and Celeb-DF, whose fakes are named target_source. A compression is
    part of its name, because the same video may be there in several.

    Raises:
        ManifestError: it is no such file, a label is not known, the split is empty, a video has no pictures, or one picture two labels.
        MissingMedia: pictures are not there.
    """
    found = [entry for entry in _entries(path) if entry.split == split]
    names = sorted({entry.label for entry in found})
    labels = {
        name: label_map.get(name) or next((label for label, known in KNOWN_LABELS.items() if known.search(name)), "") for name in names
    }
    if unknown := [name for name, label in labels.items() if not label]:
        raise ManifestError("These labels are not known.", expected="--label-map NAME=real or NAME=fake", got=", ".join(unknown))
    records, pictures = [], {}
    for entry in found:
        paths = tuple(root / frame.replace("\\", "/") for frame in sorted(entry.frames, key=_natural))
        tier, path_of, label = entry.dataset, paths[0] if paths else root, labels[entry.label]
        records.append(Record(entry.file, path_of, "video", tier, label, entry.identity, tier, "", entry.label, 1))
        pictures[entry.file] = Pictures(paths, fps)
    if empty := [file for file, one in pictures.items() if not one.frames]:
        raise ManifestError("These videos have no pictures.", expected="at least one", got=_listed(empty))
    if missing := [str(frame) for one in pictures.values() for frame in one.frames if not frame.is_file()]:
        raise MissingMedia("Pictures are missing.", expected=f"files below {root}", got=_listed(missing))
    if not records:
        raise ManifestError(f"The split {split} is empty.", expected="a split with videos", got=", ".join(names) or "no labels")
    owners: dict[Path, set[str]] = {}
    for record in records:
        for frame in pictures[record.file].frames:
            owners.setdefault(frame, set()).add(record.label)
    if both := [str(frame) for frame, own in owners.items() if len(own) > 1]:
        raise ManifestError("These pictures are called real and fake.", expected="one label each", got=_listed(both))
    return records, pictures


def shared_identities(path: Path, split: str) -> list[str]:
    """Identities of a DeepfakeBench JSON that are in `split` and in another one, each with the other's name.

    No refusal: Celeb-DF is published so. It matters to who trained on the other split.
    """
    own, others = set(), {}
    for entry in _entries(path):
        if entry.split == split:
            own.add(entry.identity)
        else:
            others[entry.identity] = entry.split
    return [f"{identity} ({others[identity]})" for identity in sorted(own & others.keys())]


def check_labelled(records: list[Record]) -> None:
    """Refuse what would make a number lie.

    Raises:
        ManifestError: a file stands twice, or it or its content under both labels; or a person on both sides of the records' split.
        MissingMedia: files are not there.
    """
    sides: dict[str, dict[str, str]] = {}
    for record in records:
        for person in persons(record) if record.split is not None else ():
            sides.setdefault(person, {}).setdefault(str(record.split), record.file)
    if torn := [f"{name} ({', '.join(f'{side}: {file}' for side, file in own.items())})" for name, own in sides.items() if len(own) > 1]:
        raise ManifestError("These identities are on both sides of the split.", expected="one side each", got=_listed(torn))
    if missing := [record.file for record in records if not record.path.exists()]:
        raise MissingMedia("Media are missing.", expected="every file of the list", got=_listed(missing))
    labels: dict[Path, set[str]] = {}
    for record in records:
        labels.setdefault(record.path.resolve(), set()).add(record.label)
    if both := [str(path) for path, own in labels.items() if len(own) > 1]:
        raise ManifestError("These files are called real and fake.", expected="one label each", got=_listed(both))
    if twice := [str(path) for path, times in Counter(record.path.resolve() for record in records).items() if times > 1]:
        raise ManifestError("These files are listed twice.", expected="each once", got=_listed(twice))
    if same := _under_both_labels(records):
        raise ManifestError("These files have one content and are called real and fake.", expected="one label each", got=_listed(same))


def _under_both_labels(records: list[Record]) -> list[str]:
    """Files of one content with two labels. Only files of one size can be alike, so most are never read."""
    sizes: dict[int, list[Record]] = {}
    for record in records:
        sizes.setdefault(record.path.stat().st_size, []).append(record)
    contents: dict[str, list[Record]] = {}
    for alike in sizes.values():
        for record in alike if len({one.label for one in alike}) > 1 else ():
            with record.path.open("rb") as file:
                contents.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), []).append(record)
    return [" = ".join(one.file for one in alike) for alike in contents.values() if len({one.label for one in alike}) > 1]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One video of a DeepfakeBench JSON."""

    dataset: str
    label: str
    split: str
    compression: str
    video: str
    frames: tuple[str, ...]

    @property
    def file(self) -> str:
        return "/".join(part for part in (self.dataset, self.label, self.compression, self.video) if part)

    @property
    def identity(self) -> str:
        return f"{self.dataset}/{self.video.split('_')[0]}"


def _entries(path: Path) -> list[_Entry]:
    try:
        return [
            _Entry(dataset, label, split, compression, video, tuple(str(frame) for frame in one["frames"]))
            for dataset, labels in json.loads(path.read_text()).items()
            for label, splits in labels.items()
            for split, videos in splits.items()
            for compression, video, one in _videos(videos)
        ]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{path} is no JSON of DeepfakeBench.", expected="dataset, label, split, video, frames", got=repr(error)
        ) from error


def _videos(split: dict[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Compression, if any, name and content: the videos of a split stand below a compression (c23) or not."""
    for name, one in split.items():
        if "frames" in one:
            yield "", name, one
        else:
            yield from ((name, video, inner) for video, inner in one.items())


def _natural(name: str) -> list[tuple[int, str]]:
    """10.png after 9.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _picture(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ManifestError("A picture cannot be read.", expected="PNG or JPEG", got=str(path))
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
