"""Judging one analysis: its id and a way to do a step once come in; row, evidence and bookmarks say how it went. Run for `workflows.py`.

A step judges a segment of media and keeps a bookmark of where it then was. Whoever takes the work up reads the bookmarks of the steps that
were done and goes on. The row is the truth: it ends once, whoever tries, and evidence lies there before it says `succeeded`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog

from models.calibration import Thresholds
from models.errors import Refusal
from pipelines.analysis import Model, Progress, Walk
from pipelines.errors import AnalysisCancelled, BookmarkUnusable
from pipelines.media import Limits, Reader
from pipelines.verdict import AnalysisReport
from service.database import Database
from service.outages import AWAY
from service.problems import DiskFull, GaveUp, StoreUnavailable, UnknownEvidence, internal_problem, problem_of
from service.recipe import config, recipe
from service.report import crop_images
from service.schemas import AnalysisResult, ContentCredentials, Problem, timeline
from service.settings import Settings
from service.severity import severity
from service.storage import Storage
from service.threshold_rows import SHIPPED, ThresholdRows
from service.witness import Witness
from service.workflows import Left, Outcome, Step

RETRY_S: Final = 1.0
MOST_ATTEMPTS: Final = 5
"""So often an analysis is taken up without coming any further, before it is what kills whoever takes it up."""

T = TypeVar("T")
log = structlog.get_logger()


class CredentialReader(Protocol):
    """`MediaSandbox.credentials`."""

    def __call__(self, media: Path, container: str, *, limits: Limits | None = None) -> ContentCredentials | None:
        """What the content credentials in a file say; None where nobody can read them."""
        ...


class Guide(Protocol):
    """Who is told how far an analysis is, and says when to stop."""

    @property
    def leaving(self) -> bool:
        """Whether this replica stops: others go on."""
        ...

    def stopped(self) -> bool:
        """Whether it is to stop within a frame, for whatever reason."""
        ...

    def show(self, progress: Progress) -> None:
        """It came so far."""
        ...


@dataclass(frozen=True, slots=True)
class Judging:
    """What all analyses of one replica share."""

    settings: Settings
    database: Database
    thresholds: ThresholdRows
    storage: Storage
    model: Model
    read: Reader
    credentials: CredentialReader
    witness: Witness
    loop: asyncio.AbstractEventLoop
    """Where the database is asked."""

    def work(self, analysis_id: str, step: Step, guide: Guide) -> None:
        """Judge it to its end.

        Raises:
            Left: this replica stops, or the work is somebody else's by now.
        """
        sitting = Sitting(self, analysis_id, guide)
        try:
            with self.witness.analysis(analysis_id) as ended, sitting:
                keys: list[str] = []
                while True:
                    if guide.leaving:
                        raise Left
                    outcome = step(partial(sitting.segment, tuple(keys)))
                    if "key" not in outcome:
                        break
                    keys = [*([] if outcome["first"] else keys), outcome["key"]]
                sitting.tidy()
                if sitting.report is not None:
                    ended(sitting.report)
                if sitting.error is not None:
                    raise sitting.error  # for the witness
        except Exception as error:
            if error is not sitting.error:
                raise


class Sitting:
    """One replica's stretch of work on one analysis; a context manager that lets go of the media."""

    def __init__(self, judging: Judging, analysis_id: str, guide: Guide) -> None:
        self._all, self._id, self._guide = judging, analysis_id, guide
        self._walk: Walk | None = None
        self._media: Path | None = None
        """While there is a walk."""
        self._threshold = SHIPPED
        self._open = ExitStack()
        self._first = True
        """Whether no bookmark that this walk goes on from is kept."""
        self.report: AnalysisReport | None = None
        """Once it has succeeded here."""
        self.error: Exception | None = None
        """Once it has failed here."""

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def segment(self, keys: tuple[str, ...]) -> Outcome:
        """Judge the next segment, after those whose bookmarks have these keys.

        Returns the key of the next one, and whether it is the first of a new row of them; or nothing, once the analysis has ended.
        """
        try:
            return self._segment(keys)
        except AnalysisCancelled:
            log.info("analysis_stopped", analysis=self._id)
            self._remove_if_deleted()
        except Refusal as error:
            log.warning("analysis_failed", analysis=self._id, problem=error.slug, detail=error.detail)
            self._failed(error, problem_of(error, instance=f"/v1/analyses/{self._id}"))
        except Exception as error:  # the last boundary: whatever it is, it is recorded in the row and the log
            log.exception("analysis_crashed", analysis=self._id, request_id=self._id)
            self._failed(error, internal_problem(instance=f"/v1/analyses/{self._id}", request_id=self._id))
        return {}

    def _segment(self, keys: tuple[str, ...]) -> Outcome:
        if self._walk is None:
            row = self._row(lambda: self._all.database.begin(self._id, self._replica))
            if row is None:
                return {}
            calibration_id = self._all.model.info.calibration_id
            threshold = self._row(lambda: self._all.thresholds.decide(self._id, calibration_id))
            if threshold is None:
                return {}
            self._threshold = threshold
            if row.attempts > MOST_ATTEMPTS:
                raise GaveUp("Judging it does not come any further.", expected=f"at most {MOST_ATTEMPTS} attempts", got=f"{row.attempts}")
            self._walk = self._begin(keys)
        try:
            more = self._on(self._walk)
        except BookmarkUnusable as error:
            log.warning("bookmarks_unusable", analysis=self._id, detail=str(error))
            self._walk = self._begin(())
            more = self._on(self._walk)
        return self._kept(self._walk) if more else self._ended(self._walk.report(self._thresholds))

    def _begin(self, keys: tuple[str, ...]) -> Walk:
        self._close()
        storage, settings = self._all.storage, self._all.settings
        media = self._media = self._patiently(lambda: self._open.enter_context(storage.media_file(self._id)))

        def walk(bookmarks: Sequence[bytes] = ()) -> Walk:
            begun = Walk(media, self._all.model, hz=settings.hz, limits=settings.limits, read=self._all.read, bookmarks=bookmarks)
            return self._open.enter_context(begun)

        if keys:
            try:
                resumed = walk(self._patiently(lambda: [storage.read_bookmark(self._id, key) for key in keys]))
            except (BookmarkUnusable, UnknownEvidence) as error:
                log.warning("bookmarks_unusable", analysis=self._id, detail=str(error))
            else:
                log.info("analysis_resumed", analysis=self._id, segments=len(keys), frames=resumed.analysis.frames)
                self._first = False
                return resumed
        log.info("analysis_begun", analysis=self._id)
        self._first = True
        return walk()

    def _on(self, walk: Walk) -> bool:
        """Walk to the end of the segment; where this replica stops before, the segment is shorter."""
        try:
            return walk.on(self._all.settings.segment_s, on_progress=self._guide.show, cancelled=self._guide.stopped)
        except AnalysisCancelled:
            if not self._guide.leaving:
                raise
            if not walk.came_further:
                raise Left from None
            return True

    def _kept(self, walk: Walk) -> Outcome:
        data = walk.bookmark()
        key = self._patiently(lambda: self._all.storage.write_bookmark(self._id, data))
        if not self._row(lambda: self._all.database.note(self._id, self._replica, further=True)):
            raise AnalysisCancelled
        outcome = {"key": key, "first": self._first}
        self._first = False
        return outcome

    def _ended(self, report: AnalysisReport) -> Outcome:
        row = self._row(lambda: self._all.database.get(self._id))
        if row is None or row.status != "running" or row.replica != self._replica:
            raise AnalysisCancelled
        limits, version = self._all.settings.limits, self._threshold.version
        credentials = None if self._media is None else self._all.credentials(self._media, report.media.container, limits=limits)
        result = AnalysisResult.from_report(report, sha256=row.sha256, threshold_version=version, credentials=credentials)
        shown, crops = timeline(report), crop_images(report)
        settings, model = self._all.settings, self._all.model
        judged_with = config(report, model, hz=settings.hz, limits=settings.limits, threshold_version=version)
        self._patiently(lambda: self._all.storage.write_evidence(self._id, result, shown, crops, judged_with))
        made = recipe(settings, model)
        facts: dict[str, str | float | None] = {"verdict": result.verdict, "sentence": result.sentence, "recipe": made}
        facts |= {"p": result.score.p, "severity": severity(result), "reach": report.verdict.reach}
        if not self._row(lambda: self._all.database.move(self._id, "running", "succeeded", replica=self._replica, **facts)):
            raise AnalysisCancelled
        self.report = report
        log.info("analysis_succeeded", analysis=self._id, verdict=result.verdict, p=result.score.p)
        return {}

    def _failed(self, error: Exception, problem: Problem) -> None:
        told = problem.model_dump_json()
        if self._row(lambda: self._all.database.move(self._id, "running", "failed", replica=self._replica, problem=told)):
            self.error = error

    def _remove_if_deleted(self) -> None:
        """Whatever was written here after whoever deleted it had removed all that there was: bookmarks, evidence or a part of it."""
        if self._row(lambda: self._all.database.get(self._id)) is not None:
            return
        try:
            self._all.storage.remove(self._id)
        except StoreUnavailable as error:  # whoever removes orphans does it
            log.warning("evidence_left", analysis=self._id, detail=error.detail)

    def _row(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._patiently(lambda: asyncio.run_coroutine_threadsafe(ask(), self._all.loop).result())

    def _patiently(self, do: Callable[[], T]) -> T:
        """Do it, as often as the database or the store is away or the disk full, until this replica stops."""
        while True:
            try:
                return do()
            except (*AWAY, StoreUnavailable, DiskFull) as error:
                log.warning("waiting", analysis=self._id, reason=f"{type(error).__name__}: {error}", retry_s=RETRY_S)
                if isinstance(error, StoreUnavailable | DiskFull) and self._guide.stopped() and not self._guide.leaving:
                    raise AnalysisCancelled from error
            if self._guide.leaving:
                raise Left
            time.sleep(RETRY_S)

    def tidy(self) -> None:
        """Remove the bookmarks of what has ended."""
        try:
            self._all.storage.remove_bookmarks(self._id)
        except StoreUnavailable as error:
            log.warning("bookmarks_left", analysis=self._id, detail=error.detail)

    def _close(self) -> None:
        self._walk = self._media = None
        self._open.close()

    @property
    def _thresholds(self) -> Thresholds | None:
        choice = self._threshold.choice
        return None if choice is None else self._all.model.calibrator.thresholds_at(choice.threshold, choice.target_fpr)

    @property
    def _replica(self) -> str:
        return self._all.settings.replica
