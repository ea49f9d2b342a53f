"""Notes on alerts, with a real SQLite that somebody else locks and a real store: told in order, once each, and never more than may wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service import alert_notes
from service.alert_notes import AlertNotes, Change, Kept, Note
from service.connection import database_url
from service.database import Database, now
from service.feed_album import Picture, Still
from service.feed_rows import AlertRow, FeedRows
from service.feed_store import Evidence, FeedStore
from service.feed_wire import AlertEvent
from service.objects import Objects
from service.problems import StoreUnavailable
from service.settings import FeedTerms, Settings
from service.stream_wire import Event
from tests.service.test_alerts import pictures
from tests.service.test_feed_rows import alert, feed


@dataclass
class Desk:
    """One feed's notes and all that comes of them."""

    database: Database
    folder: Path
    terms: FeedTerms = field(default_factory=FeedTerms)
    events: list[AlertEvent] = field(default_factory=list)
    hooks: list[tuple[int, str]] = field(default_factory=list)

    async def open(self) -> None:
        self.rows = FeedRows(self.database, alone=True, tell=self._note_hook)
        self.store = FeedStore(Objects.in_directory(self.folder / "feeds"))
        self.feed = feed()
        await self.rows.add(self.feed)
        self.notes = AlertNotes(self.feed.id, self.rows, self.store, self.terms, self._tell)

    def note(self, kept: Kept, change: Change, track: int, *, still: Still | None = None, clip: list[Picture] | None = None) -> None:
        """Put one, about the alert of this track."""
        over = {"cause": "below", "ended_at": now()} if change != "began" else {}
        self.notes.put(Note(kept, change, alert(self.feed.id, track=track, **over), still, clip or ()))

    @property
    def told(self) -> list[tuple[int, str, int | None, str]]:
        """Track, change, number and state of each event."""
        return [(event.alert.track, event.change, event.alert.n, event.alert.state) for event in self.events]

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.folder / "undercurrent.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield

    async def _note_hook(self, _: AsyncSession, row: AlertRow) -> None:
        self.hooks.append((row.n, "started" if row.ended_at is None else "ended"))

    def _tell(self, event: Event) -> None:
        assert isinstance(event, AlertEvent)
        self.events.append(event)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    opened = Desk(await Database.open(database_url(Settings(data_dir=tmp_path))), tmp_path)
    await opened.open()
    yield opened
    await opened.database.close()


async def test_what_waits_is_told_in_order_and_what_has_no_room_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_notes, "MOST", 3)
    cases = [Kept() for _ in range(4)]
    with desk.locked():
        for track, kept in enumerate(cases[:2]):
            desk.note(kept, "began", track)
            desk.note(kept, "ended", track)
        for track, kept in enumerate(cases[2:], 2):
            desk.note(kept, "began", track)
            desk.note(kept, "ended", track)
        refused = [(2, "began", None, "open"), (2, "ended", None, "ended"), (3, "began", None, "open"), (3, "ended", None, "ended")]
        assert desk.told == refused and desk.notes.lost == 4
        await asyncio.sleep(0.1)  # the first statement meets the lock
    await desk.notes.close(60)
    assert desk.told[4:] == [(0, "began", 1, "open"), (0, "ended", 1, "ended"), (1, "began", 2, "open"), (1, "ended", 2, "ended")]
    assert desk.hooks == [(1, "started"), (1, "ended"), (2, "started"), (2, "ended")]
    assert [(row.n, row.cause) for row in await desk.rows.alert_page(desk.feed.id, before=None, limit=9)] == [(2, "below"), (1, "below")]
    assert desk.notes.lost == 4


async def test_who_stops_waits_for_so_long_and_says_what_is_lost(desk: Desk) -> None:
    with desk.locked():
        desk.note(kept := Kept(), "began", 1)
        desk.note(kept, "ended", 1)
        await desk.notes.close(0.2)
    assert desk.told == [] and desk.notes.lost == 2
    assert not await desk.rows.alert_page(desk.feed.id, before=None, limit=9)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("alerts-")]


async def test_nobody_is_told_of_what_was_deleted(desk: Desk) -> None:
    with desk.locked():
        desk.note(Kept(), "began", 1)
        desk.notes.discard()
        await asyncio.sleep(0.05)
    await desk.notes.close(60)
    assert desk.told == [] and desk.notes.lost == 0


async def test_evidence_that_no_store_takes_costs_the_alert_nothing_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Evidence] = []

    def away(self: FeedStore, feed_id: str, n: int, evidence: Evidence, content: bytes) -> None:
        tried.append(evidence)
        raise StoreUnavailable("The store is away.", expected="a store that answers", got="nothing")

    monkeypatch.setattr(alert_notes, "full_jitter", lambda _: 0.0)
    monkeypatch.setattr(FeedStore, "put", away)
    shown, kept = pictures(3), Kept()
    desk.note(kept, "began", 1, still=Still(shown[0], (0.0, 0.0, 9.0, 9.0)))
    desk.note(kept, "clip", 1, clip=shown)
    await desk.notes.close(60)
    assert tried == ["still"] * alert_notes.TRIES + ["clip"] * alert_notes.TRIES and desk.notes.lost == 2
    assert [(event.change, set(event.alert.links), event.alert.clip) for event in desk.events] == [
        ("began", {"self"}, None),
        ("clip", {"self"}, None),
    ]


async def test_pictures_that_wait_are_bounded(desk: Desk) -> None:
    shown = pictures(3)
    size = sum(len(picture.jpeg) for picture in shown)
    desk.notes = AlertNotes(desk.feed.id, desk.rows, desk.store, FeedTerms(album_bytes=size), desk.notes._tell)
    cases = [Kept() for _ in range(3)]
    with desk.locked():
        for track, kept in enumerate(cases):
            desk.note(kept, "began", track)
            desk.note(kept, "clip", track, clip=shown)
        assert desk.notes.lost == 1
    await desk.notes.close(60)
    assert [kept.clip_bytes > 0 for kept in cases] == [True, True, False] and desk.notes.lost == 1
    assert sorted(path.name for path in desk.folder.rglob("*.mp4")) == ["1.mp4", "2.mp4"]
