"""Untrusted media opens nothing, asks for no more than its limits and ends in a typed refusal, in this process and in the decode child."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import av
import pytest

from pipelines.errors import UnsupportedMedia
from pipelines.frames import probe, read_frames
from pipelines.media import Frames, Limits
from service.media_sandbox import MediaSandbox
from tests.fuzz.corpus import Case, bait, canaries, corpus
from tests.fuzz.lures import ELEVEN, SUFFIXES
from tests.fuzz.trial import LIMITS, attempt
from tests.fuzz.watch import Watch, watch

Read = Callable[[Path, Limits], Frames]

PATIENT: Final = replace(LIMITS, open_timeout_s=30.0, read_timeout_s=30.0, max_wall_s=60.0)
"""No case is to end because the machine does something else; the CPU time of a child is held to what the fuzzer gives it."""

# Kinds of bomb, and how each may end: refused for what it claims or is, or read as far as it is a video.
BOMBS: Final[dict[str, set[str]]] = {
    "pixels": {"MediaTooLarge"},
    "pixels_claimed": {"ok", "MediaTooLarge"},  # the codec's own header knows better than the container's
    "pixels_later": {"ok", "MediaTooLarge"},
    "hours": {"MediaTooLarge"},
    "hours_claimed": {"ok", "MediaTooLarge", "UnsupportedMedia"},
    "streams": {"MediaTooLarge"},
    "tracks": {"MediaTooLarge"},
    "frames_claimed": {"DecodeError", "MediaTooLarge"},
    "fragment_claimed": {"DecodeError", "MediaTooLarge", "UnsupportedMedia"},
    "fragments": {"ok"},
    "edits": {"MediaTooLarge"},
    "compressed_moov": {"ok", "MediaTooLarge", "UnsupportedMedia"},
    "nested_boxes": {"UnsupportedMedia"},
    "nested_elements": {"NoVideoStream"},
    "compressed_blocks": {"DecodeError", "MediaTooLarge"},
    "void": {"ok"},
    "tables": {"DecodeError"},
    "timescale": {"ok", "MediaTooLarge"},
}
MEMORY_BYTES: Final = 256 * 1024**2
NEEDS_A_CHILD: Final = ("20000000",)  # an index of 0.8 GB, which nothing in this process would stop


@dataclass(frozen=True, slots=True)
class Scene:
    """A corpus on disk, with somebody watching what it names."""

    folder: Path
    cases: list[Case]
    watch: Watch

    def of(self, kind: str) -> list[Case]:
        found = [case for case in self.cases if case.kind == kind]
        assert found
        return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hostile")
    bait(folder)
    with watch(canaries(folder)) as watching:
        yield Scene(folder, list(corpus(folder, port=watching.port)), watching)


@pytest.fixture
def scene(everything: Scene) -> Scene:
    """What earlier tests touched is forgotten."""
    everything.watch.touched()
    return everything


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MediaSandbox]:
    with MediaSandbox() as running:
        yield running


@pytest.fixture(params=["in_process", "in_sandbox"])
def read(request: pytest.FixtureRequest, sandbox: MediaSandbox) -> Read:
    """Both ways to open a file, every frame wanted."""
    if request.param == "in_process":
        return lambda path, limits: read_frames(path, hz=None, limits=limits)
    return lambda path, limits: sandbox.read_frames(path, hz=None, limits=limits)


def test_the_watch_sees_a_careless_reader(scene: Scene) -> None:
    """The two attacks that work on PyAV's defaults; without this the tests below could pass for want of a trap."""
    (listed,) = (case for case in scene.of("concat_sibling") if case.path.suffix == ".ffconcat")
    with av.open(str(listed.path)) as container:
        assert next(container.decode(video=0)).width == 96
    assert scene.watch.touched() == ["sibling.ts"]
    (played,) = (case for case in scene.of("hls_local_http") if case.path.suffix == ".m3u8")
    with played.path.open("rb") as file, pytest.raises(av.error.FFmpegError), av.open(file):
        pass
    assert scene.watch.touched() == ["network"]


@pytest.mark.parametrize("kind", ELEVEN)
def test_a_text_that_names_media_opens_nothing_under_any_name(scene: Scene, read: Read, kind: str) -> None:
    cases = scene.of(kind)
    assert len(cases) == len(SUFFIXES)
    for case in cases:
        with pytest.raises(UnsupportedMedia) as refusal, read(case.path, PATIENT) as frames:
            list(frames)
        assert str(scene.folder) not in str(refusal.value)
    assert scene.watch.touched() == []


@pytest.mark.parametrize("kind", ELEVEN)
def test_probing_a_text_that_names_media_opens_nothing(scene: Scene, sandbox: MediaSandbox, kind: str) -> None:
    for case in scene.of(kind):
        for look in (probe, sandbox.probe):
            with pytest.raises(UnsupportedMedia):
                look(case.path, limits=PATIENT)
    assert scene.watch.touched() == []


def test_no_other_lure_is_taken(scene: Scene, read: Read) -> None:
    """Keys, maps, data URLs, entities, subtitles with a second file, external tracks, aliases, attachments, linked segments."""
    others = [case for case in scene.cases if case.family == "lure" and case.kind not in ELEVEN]
    assert len({case.kind for case in others}) > 25
    ended = {case.path.name: attempt(partial(read, case.path, PATIENT), PATIENT, private=scene.folder) for case in others}
    assert {name: outcome for name, outcome in ended.items() if outcome.bad} == {}
    assert {name for name, outcome in ended.items() if outcome.ended == "ok"} <= {
        # whole videos, whose other parts are left where they are
        *(f"dref_{kind}.mov" for kind in ("url", "http")),
        *("attachment.mkv", "attached_font.mkv", "linked_segment.mkv"),
    }
    assert scene.watch.touched() == []


def test_every_kind_of_bomb_is_tried(scene: Scene) -> None:
    assert {case.kind for case in scene.cases if case.family == "bomb"} == set(BOMBS)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_ends_within_its_limits(request: pytest.FixtureRequest, scene: Scene, read: Read, kind: str) -> None:
    in_process = "in_process" in request.node.name
    limits = replace(PATIENT, max_memory_bytes=MEMORY_BYTES)
    for case in scene.of(kind):
        if in_process and any(name in case.path.name for name in NEEDS_A_CHILD):
            continue
        outcome = attempt(partial(read, case.path, limits), limits, private=scene.folder)
        assert not outcome.bad, (case.path.name, outcome)
        assert outcome.ended in BOMBS[kind], (case.path.name, outcome)


def test_a_sample_of_the_corpus_goes_through_the_sandbox(scene: Scene, sandbox: MediaSandbox) -> None:
    """Every eleventh case of `python -m tests.fuzz`; the good clips come first, so some of them are in it."""
    sample = scene.cases[:: len(scene.cases) // 80]
    assert len(sample) >= 80
    bad, frames = {}, 0
    for case in sample:
        outcome = attempt(partial(sandbox.read_frames, case.path, hz=None, limits=PATIENT), PATIENT, private=scene.folder)
        frames += outcome.frames
        if outcome.bad:
            bad[case.path.name] = outcome
    assert bad == {}
    assert frames > 200, "the sandbox refused what it should have read"
    assert scene.watch.touched() == []


def test_the_good_clips_come_through_whole(scene: Scene, read: Read) -> None:
    for case in scene.cases:
        if case.family == "good":
            with read(case.path, PATIENT) as frames:
                assert len(list(frames)) == 20
                assert frames.warnings == []
