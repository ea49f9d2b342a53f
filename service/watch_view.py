"""A live stream in a terminal: events of `stream_wire.py` in, Rich renderables out. Fed and drawn by `cli_watch.py`; needs 80 columns."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipelines.verdict import REASON_WORDS
from service.schemas import TimelineRow
from service.stream_wire import DropEvent, FaceEvent, GapEvent, Ready, ScoreEvent, ServerMessage, Source, Stats
from service.terminal import BLOCKS, PROVENANCE_WORDS

NOTES: Final = 6
MOST_FACES: Final = 8
HISTORY: Final = 40
STATE_STYLES: Final = {"running": "green", "connecting": "yellow", "reconnecting": "yellow", "stalled": "yellow", "failed": "red"}
GAP_WORDS: Final = {
    "missing": "no pictures",
    "discontinuity": "its timeline broke, nobody knows for how long",
    "reconnected": "the camera was away",
    "paused": "paused",
}
DROP_WORDS: Final = {
    "overtaken": "left out, the machine is behind",
    "undecodable": "lost or undecodable",
    "missing": "never came",
    "no_pts": "without a time",
    "nets_failed": "on which the nets failed",
    "paused": "not looked at, paused",
    "client_over_credit": "sent without credit",
}


@dataclass(slots=True)
class _Face:
    row: TimelineRow
    history: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY))
    alert: bool = False


class WatchView:
    """What is known of a stream. `shown` is what may be said of its URL."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._threshold = 1.0
        self._source: Source | None = None
        self._media = ""
        self._score: ScoreEvent | None = None
        self._stats: Stats | None = None
        self._faces: dict[int, _Face] = {}
        self._gaps, self._gap_s, self._looks = 0, 0.0, 0
        self._drops: Counter[str] = Counter()
        self.notes: deque[Text] = deque(maxlen=NOTES)
        """What happened last, oldest first."""

    def take(self, event: ServerMessage) -> list[Text]:
        """Remember an event; returns what is worth a line of its own."""
        before = list(self.notes)
        match event:
            case Ready():
                self._threshold = event.threshold
            case Source():
                self._tell_source(event)
            case ScoreEvent():
                self._tell_score(event)
            case FaceEvent() if event.state == "left":
                self._faces.pop(event.track, None)
            case GapEvent():
                self._gaps += 1
                self._gap_s += event.seconds
                self._note(event.end.t, f"gap of {event.seconds:.2f} s: {GAP_WORDS[event.cause]}", "yellow")
            case DropEvent():
                self._drops[event.cause] += event.n
                if event.cause != "overtaken":
                    self._note(event.since, f"{event.n} {'picture' if event.n == 1 else 'pictures'} {DROP_WORDS[event.cause]}", "yellow")
            case Stats():
                self._stats = event
        return [note for note in self.notes if not any(note is old for old in before)]

    def render(self) -> Group:
        """All of it, as it is now."""
        worst = sorted(self._faces.items(), key=lambda item: -(item[1].row.p or 0.0))
        faces = sorted(worst[:MOST_FACES], key=lambda item: item[0])
        parts = [self._headline(), self._pace(), Text(), *([self._face_lines(faces)] if faces else [Text("no face in view", style="dim")])]
        return Group(*parts, Text(), *self.notes, self._totals())

    def _tell_source(self, source: Source) -> None:
        self._source = source
        if (media := source.media) is not None:
            self._media = f"{media.codec} {media.width} x {media.height}"
        style = STATE_STYLES.get(source.state, "dim")
        words: str = source.state
        if source.next_retry_s is not None:
            words += f" in {source.next_retry_s:.1f} s, attempt {source.attempt}"
        self._note(source.t, words + (f" ({source.code})" if source.code else ""), style)

    def _tell_score(self, score: ScoreEvent) -> None:
        self._score = score
        self._looks += score.stands_for
        for row in score.faces:
            face = self._faces.setdefault(row.track, _Face(row))
            face.row = row
            face.history.append(row.p)
            alert = row.p is not None and row.p >= self._threshold
            if alert and not face.alert:
                self._note(row.t, f"ALERT face {row.track}: {row.p:.0%}, threshold {self._threshold:.0%}", "bold red")
            elif face.alert and row.p is not None and not alert:
                self._note(row.t, f"face {row.track} is below the threshold again", "dim")
            face.alert = alert or (face.alert and row.p is None)

    def _note(self, t: float | None, words: str, style: str) -> None:
        self.notes.append(Text.assemble((f"{'' if t is None else f'{t:.2f} s':>12}  ", "dim"), (words, style)))

    def _headline(self) -> Text:
        state = "waiting" if self._source is None else self._source.state
        return Text.assemble(("● ", STATE_STYLES.get(state, "dim")), (state, "bold"), f"  {self._shown}  ", (self._media, "dim"))

    def _pace(self) -> Text:
        score, stats = self._score, self._stats
        if score is None:
            return Text("no picture yet", style="dim")
        pace = f"latency {1000 * score.latency_s:.0f} ms"
        if stats is not None:
            if stats.latency_p95_s is not None:
                pace += f" (95 % within {1000 * stats.latency_p95_s:.0f})"
            pace += f", {stats.hz:.1f} looks a second"
        # Two lines: together they are longer than the 80 columns that many a terminal has, and would be folded within a phrase.
        return Text(f"t {score.at.t:.2f} s {PROVENANCE_WORDS[score.provenance]}\n{pace}", style="dim")

    def _face_lines(self, faces: list[tuple[int, _Face]]) -> Table:
        table = Table.grid(padding=(0, 2))
        for track, face in faces:
            row, history = face.row, Text()
            for p in face.history:
                style = "dim" if p is None else "red" if p >= self._threshold else "cyan"
                history.append("·" if p is None else BLOCKS[max(1, round(8 * p))], style=style)
            said = f"not judged: {REASON_WORDS[row.reason]}" if row.p is None and row.reason is not None else f"{row.p or 0:.0%}"
            surprise = "" if row.surprise is None else f"surprise {row.surprise:.1f}"
            table.add_row(f"face {track}", history, Text(said, style="bold red" if face.alert else ""), surprise)
        if len(self._faces) > MOST_FACES:
            table.add_row("", Text(f"{len(self._faces) - MOST_FACES} more faces", style="dim"))
        return table

    def _totals(self) -> Text:
        drops = ", ".join(f"{n} {cause.replace('_', ' ')}" for cause, n in sorted(self._drops.items())) or "none"
        return Text(f"{self._looks} looks, {self._gaps} gaps ({self._gap_s:.1f} s), drops: {drops}", style="dim")
