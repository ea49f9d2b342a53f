"""The columns of a timeline are read once while somebody looks, made where there are none, and gone with their analysis; in both stores."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from service import timeline_shelf
from service.problems import DiskFull, UnknownEvidence
from service.schemas import AnalysisResult, timeline
from service.settings import Settings
from service.storage import COLUMNS, Storage
from service.timeline_columns import read_columns
from service.timeline_part import Window, timeline_part
from service.timeline_shelf import TimelineShelf
from tests.service.reports import make_report
from tests.service.test_storage import CONFIG, in_bucket

PART = Window(1, 4, 8)


class Watched(Storage):
    """Counts what is read."""

    reads: Counter[str]

    async def read_timeline(self, analysis_id: str) -> bytes:
        self.reads["timeline"] += 1
        return await super().read_timeline(analysis_id)

    async def read_columns(self, analysis_id: str) -> bytes | None:
        self.reads["columns"] += 1
        return await super().read_columns(analysis_id)

    def forget_columns(self, analysis_id: str) -> None:
        """As if it had been judged before there were any."""
        self._objects.remove(f"analyses/{analysis_id}/evidence/{COLUMNS}")


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A storage of either kind with the evidence of the analyses a and b."""
    if request.param == "bucket":
        settings = in_bucket(request.getfixturevalue("s3"), settings, monkeypatch)
    opened = Watched.open(settings)
    opened.reads = Counter()
    report = make_report()
    for name in ("a", "b"):
        opened.write_evidence(name, AnalysisResult.from_report(report), timeline(report), {}, CONFIG)
    yield opened


async def test_who_asks_at_once_has_them_read_once(storage: Watched) -> None:
    shelf = TimelineShelf(storage)
    found = await asyncio.gather(*(shelf.columns("a") for _ in range(5)))
    assert all(one is found[0] for one in found) and await shelf.columns("a") is found[0]
    assert storage.reads == {"columns": 1}


async def test_who_goes_away_does_not_take_them_along(storage: Watched) -> None:
    shelf = TimelineShelf(storage)
    leaves, stays = (asyncio.create_task(shelf.columns("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    assert (await stays).spans.keys() == {0, 1}


async def test_older_analyses_get_theirs_at_the_first_question(storage: Watched) -> None:
    written = timeline_part(await TimelineShelf(storage).columns("a"), PART)
    storage.forget_columns("a")
    assert timeline_part(await TimelineShelf(storage).columns("a"), PART) == written
    assert storage.reads["timeline"] == 1
    # Another replica finds them.
    assert timeline_part(await TimelineShelf(storage).columns("a"), PART) == written
    assert storage.reads["timeline"] == 1


async def test_a_full_disk_keeps_nobody_from_looking(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.forget_columns("a")

    def full(*_: object) -> None:
        raise DiskFull("The disk is full.", expected="room", got="none")

    monkeypatch.setattr(storage, "write_columns", full)
    assert (await TimelineShelf(storage).columns("a")).pts.size == len(make_report().scores)


async def test_they_go_with_their_analysis(storage: Watched) -> None:
    shelf = TimelineShelf(storage)
    content = await storage.read_columns("a")
    assert content is not None
    await shelf.columns("a")
    storage.remove("a")
    shelf.drop("a")
    for _ in range(2):
        with pytest.raises(UnknownEvidence, match="no longer has this of a"):
            await shelf.columns("a")
    # A replica that made them while another deleted the analysis leaves nothing either.
    storage.write_columns("a", content)
    assert await storage.read_columns("a") is None
    assert await shelf.columns("b")


async def test_memory_is_bounded_and_given_back(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = TimelineShelf(storage)
    size = (await shelf.columns("a")).nbytes
    monkeypatch.setattr(timeline_shelf, "MOST_BYTES", size)
    assert await shelf.columns("b") is await shelf.columns("b")
    assert storage.reads["columns"] == 2
    await shelf.columns("a")
    assert storage.reads["columns"] == 3, "the one of the two that was not looked at last had gone"
    monkeypatch.setattr(timeline_shelf, "KEPT_S", 0.01)
    briefly = TimelineShelf(storage)
    await briefly.columns("a")
    await asyncio.sleep(0.2)
    await briefly.columns("a")
    assert storage.reads["columns"] == 5


async def test_columns_are_views_of_what_was_read(storage: Watched) -> None:
    content = await storage.read_columns("a")
    assert content is not None
    assert all(not array.flags.owndata for array in (read_columns(content).p, read_columns(content).rest))
