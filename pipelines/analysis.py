"""The walk of a frame, from picture to verdict. READ THIS FIRST.

`Analysis.push` takes one Frame and gives the Scores of its faces; `Analysis.finish` gives the Verdict. A file is a stream that ends:
`analyse` reads a source and pushes each of its frames, nothing more, so a file and a live stream cannot disagree.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from types import TracebackType
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import Thresholds, probability
from models.checkpoint import WeightsError
from models.explanation import explain
from models.liquid import LiquidCell
from pipelines.bookmark import Held, Scribe, Told, read
from pipelines.cropper import Cropper
from pipelines.errors import AnalysisCancelled, BookmarkUnusable, TimestampError
from pipelines.faces import Face
from pipelines.frames import read_frames
from pipelines.inference import Impression, Inference, Look, Seat
from pipelines.judgement import Judge, Moment, Sighting, TrackRecord
from pipelines.media import Frame, Image, Limits, Reader
from pipelines.model import Model, load_model
from pipelines.profile import StageClock
from pipelines.tracks import Observation
from pipelines.triage import triage
from pipelines.verdict import AnalysisReport, EvidenceCrop, ExplainedTrack, ReasonCode, Score, Verdict

__all__ = ["Analysis", "Model", "Progress", "Walk", "analyse", "load_model"]

DEFAULT_HZ: Final = 12.0
KEPT_MOMENTS: Final = 43_200
"""Judged moments of one track that are kept for its explanation: an hour at 12 looks a second, 22 MB of embeddings."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an analysis is; sent after each analysed frame."""

    frames_decoded: int
    frames_analysed: int
    media_s: float
    duration_s: float | None
    """Declared by the container; None when it does not say."""
    faces: int


_Suspicion = tuple[float, float]
"""The score of a track, -1 where it was seen too briefly for one, and its mean log-odds, by which those are compared."""


@dataclass(slots=True)
class _Kept:
    """What one memory was given since it was empty, its first KEPT_MOMENTS moments, so that `explain` can give it again."""

    track: int
    embeddings: list[NDArray[np.float32]] = field(default_factory=list)
    """Each (1, E)."""
    pts: list[int] = field(default_factory=list)

    def keep(self, embedding: NDArray[np.float32], pts: int) -> None:
        if len(self.pts) < KEPT_MOMENTS:
            self.embeddings.append(embedding)
            self.pts.append(pts)


@dataclass(slots=True)
class _Memory:
    """What the model remembers of one track."""

    slot: int
    """Where the seat keeps it."""
    artefact: float | None = None
    last_pts: int | None = None
    kept: _Kept | None = None
    """None unless the analysis will be asked to explain."""


class Analysis:
    """One judgement of one stream. Holds all of the stream's state; the Model holds none and may be shared.

    Args:
        model: judges.
        seat: who asks the nets, and keeps the memories; None asks them here and now. An Engine's seats share its nets with other streams.
        clock: counts CPU time.
        horizon_s: seconds of media that the verdict is about; what is older is forgotten, and `scores` are not kept at all (`push` gives
            them), so that a stream may go on for ever. None: all.
        sparing: search for faces less often where there are fewer looks a second, because they are few for want of time.
        explain: keep the embeddings of each face in view, and of the most suspicious one that left, for `explained`.

    Raises:
        WeightsError: `explain`, but the evidence of these weights adds up to nothing.
        ValueError: `explain` with `horizon_s`: what is forgotten cannot be explained.
    """

    def __init__(
        self,
        model: Model,
        *,
        seat: Seat | None = None,
        clock: StageClock | None = None,
        horizon_s: float | None = None,
        sparing: bool = False,
        explain: bool = False,
    ) -> None:
        if explain and horizon_s is not None:
            raise ValueError("Analysis: expected explain or horizon_s, got both")
        if explain and not isinstance(model.temporal.evidence, LiquidCell):
            raise WeightsError(
                "These weights cannot be explained: their evidence is no sum over moments.",
                expected="a temporal head with cell 'liquid' or 'resonator'",
                got=f"cell {model.temporal.cell!r}",
            )
        self.model = model
        self.clock = clock or StageClock()
        self.explains = explain
        self._horizon_s = horizon_s
        self.scores: list[Score] = []
        self._seat = Inference(model, clock=self.clock) if seat is None else seat
        self._cropper = Cropper(model.detector, clock=self.clock, sparing=sparing)
        self._memories: dict[int, _Memory] = {}
        self._left: tuple[_Suspicion, _Kept] | None = None
        """The most suspicious face of those that left: nobody can ask for another, so what is kept does not grow with their number."""
        self._records: dict[int, TrackRecord] = {}
        self._faces = 0
        self._sightings: list[Sighting] = []
        self._time_base: Fraction | None = None
        self._can_be_kept = horizon_s is None and not explain
        self._scribe = Scribe()

    def push(self, frame: Frame) -> list[Score]:
        """Judge one Frame: find and follow, crop, see, remember, score. Frames come in order of time, in one time base."""
        self._check_time(frame)
        self._forget_old(frame.pts)
        sparse = "sparse" in frame.flags
        cropped = self._cropper.crop(frame)
        if cropped is None:
            self._sightings.append(Sighting(frame.pts, (), "decode_error", sparse))
            return []
        for track in cropped.ended:
            self._forget(track)
        reasons = list(cropped.reasons)
        chosen = [i for i, reason in enumerate(reasons) if reason is None]
        judged = self._judge(frame, [cropped.seen[i].track for i in chosen], [cropped.crops[i] for i in chosen])
        for i in chosen:
            if cropped.seen[i].track not in judged:
                reasons[i] = "out_of_distribution"
        scores = [
            self._score(frame, seen, crop, reason, judged.get(seen.track))
            for seen, crop, reason in zip(cropped.seen, cropped.crops, reasons, strict=True)
        ]
        self._sightings.append(Sighting(frame.pts, tuple(judged), _reason_of_frame(cropped.seen, reasons), sparse))
        if self._horizon_s is None:
            self.scores += scores
        return scores

    def close(self) -> None:
        """Give all memories back to the seat: nothing can be pushed after it, all else may still be asked. May be called twice."""
        for track in list(self._memories):
            self._forget(track)

    def bookmark(self) -> bytes:
        """What it learnt since its last bookmark (`bookmark.py`); `resume` takes all of them. To be asked between two frames.

        Raises:
            ValueError: it has a horizon, explains, or its memories are an Engine's: streams are resumed by other means.
        """
        if not self._can_be_kept or not isinstance(self._seat, Inference):
            raise ValueError("bookmark: expected an Analysis of its own without horizon and explanation, got another")
        told = self._told()
        told.cropper, told.stages = self._cropper.state, self.clock.times()
        told.memories = {
            track: Held(memory.artefact, memory.last_pts, self._seat.recall(memory.slot)) for track, memory in self._memories.items()
        }
        return self._scribe.write(told, self.model.info)

    def resume(self, bookmarks: Sequence[bytes]) -> None:
        """Go on from where another Analysis was at its last bookmark, bit for bit; nothing was pushed to this one yet.

        Raises:
            BookmarkUnusable: one of them is damaged or missing, or of another format, other weights or other crops.
            ValueError: it cannot have bookmarks, or something was pushed already.
        """
        if not self._can_be_kept or not isinstance(self._seat, Inference) or self._sightings:
            raise ValueError("resume: expected a new Analysis of its own without horizon and explanation, got another")
        told = read(bookmarks, self.model.info)
        try:
            for track, held in told.memories.items():
                memory = self._fresh(track)
                memory.artefact, memory.last_pts = held.artefact, held.last_pts
                self._seat.restore(memory.slot, held.arrays)
            if told.cropper is not None:
                self._cropper.resume(told.cropper)
        except ValueError as error:
            raise BookmarkUnusable("A bookmark does not fit.", expected="a state of these nets", got=str(error)) from error
        self.scores, self._sightings, self._records = told.scores, told.sightings, told.records
        self._faces, self._time_base = told.faces, told.time_base
        for stage in told.stages:
            self.clock.add(stage.stage, stage.cpu_s, calls=stage.calls)
        self._scribe.wrote(self._told(), n=len(bookmarks))

    def _told(self) -> Told:
        return Told(self._time_base, self._faces, self.scores, self._sightings, self._records)

    def finish(self, *, duration_s: float | None = None, thresholds: Thresholds | None = None) -> Verdict:
        """The Verdict over all that was pushed; may be asked at any moment of a live stream.

        `duration_s`: how long the media lasts, for one that was not read to its last picture (triage).
        `thresholds`: decide instead of those that the weights came with; scores are the same by any.
        """
        with self.clock.stage("verdict"):
            base = self._time_base or Fraction(1)
            judge = Judge(self.model.calibrator, thresholds)
            return judge.verdict(list(self._records.values()), self._sightings, base, duration_s=duration_s)

    def explained(self) -> ExplainedTrack | None:
        """Why the track of the highest score was judged as it was; None where no face was judged. May be asked at any moment.

        Raises:
            ValueError: the analysis was not told to explain.
        """
        if not self.explains:
            raise ValueError("explained: expected an Analysis made with explain=True, got one that kept nothing")
        found = [(self._suspicion(memory.kept), memory.kept) for memory in self._memories.values() if memory.kept is not None]
        if self._left is not None:
            found.append(self._left)
        if not found:
            return None
        _, kept = max(found, key=lambda one: one[0])
        base = self._time_base or Fraction(1)
        dts = [float("inf")] + [float((after - before) * base) for before, after in pairwise(kept.pts)]
        return ExplainedTrack(
            track=kept.track,
            first_pts=kept.pts[0],
            last_pts=kept.pts[-1],
            time_base=base,
            surprise_unit=float(self.model.calibrator.surprise_unit),
            explanation=explain(
                self.model.temporal,
                torch.from_numpy(np.stack(kept.embeddings)).to(self.model.device),
                # fp64, so that sums of them are right after a day; the head takes them in fp32, as it did when it judged.
                torch.tensor(dts, dtype=torch.float64, device=self.model.device).reshape(-1, 1, 1),
            ),
        )

    def _suspicion(self, kept: _Kept) -> _Suspicion:
        record = self._records[kept.track]
        (report,) = Judge(self.model.calibrator).verdict([record], [], self._time_base or Fraction(1)).tracks
        return -1.0 if report.score is None else report.score.p, float(np.mean([moment.logit for moment in record.moments]))

    def _forget(self, track: int) -> None:
        memory = self._memories.pop(track, None)
        if memory is None:
            return
        self._seat.release(memory.slot)
        if memory.kept is not None:
            suspicion = self._suspicion(memory.kept)
            if self._left is None or suspicion > self._left[0]:
                self._left = suspicion, memory.kept

    def _forget_old(self, pts: int) -> None:
        """Let go of what lies beyond the horizon, a tenth of it at a time; a track that ended before it goes whole."""
        if self._horizon_s is None or self._time_base is None or not self._sightings:
            return
        oldest = pts - int(self._horizon_s / self._time_base)
        if self._sightings[0].pts >= oldest - int(0.1 * self._horizon_s / self._time_base):
            return
        self._sightings = [sighting for sighting in self._sightings if sighting.pts >= oldest]
        self._records = {track: record for track, record in self._records.items() if record.last_pts >= oldest}
        for record in self._records.values():
            record.forget(oldest)

    @property
    def frame_pts(self) -> tuple[int, ...]:
        """PTS of every frame pushed."""
        return tuple(sighting.pts for sighting in self._sightings)

    @property
    def frames(self) -> int:
        """How many frames were pushed."""
        return len(self._sightings)

    @property
    def faces(self) -> int:
        """How many tracks there have been."""
        return self._faces

    def _check_time(self, frame: Frame) -> None:
        if self._time_base is None:
            self._time_base = frame.time_base
        elif frame.time_base != self._time_base:
            raise TimestampError(
                "The time base changed in the middle of a stream.", expected=str(self._time_base), got=str(frame.time_base)
            )
        if self._sightings and frame.pts < self._sightings[-1].pts:
            raise TimestampError(
                "A frame is older than the one before it.", expected=f"pts >= {self._sightings[-1].pts}", got=str(frame.pts)
            )

    def _judge(self, frame: Frame, tracks: list[int], crops: list[Image]) -> dict[int, Judged]:
        """See and remember one crop of each of `tracks`, each with its own dt; those that are of no familiar face are missing."""
        memories = [self._memories.get(track) or self._fresh(track) for track in tracks]
        # Subtract in ticks, convert once: fp32 seconds are 6 % wrong after a day.
        dts = [None if memory.last_pts is None else float((frame.pts - memory.last_pts) * frame.time_base) for memory in memories]
        looks = [Look(crop, memory.slot, float("inf") if dt is None else dt) for crop, memory, dt in zip(crops, memories, dts, strict=True)]
        judged: dict[int, Judged] = {}
        for track, dt, impression in zip(tracks, dts, self._seat.judge(looks), strict=True):
            if impression.remembered is not None:
                judged[track] = self._keep(frame, track, dt, impression)
        return judged

    def _keep(self, frame: Frame, track: int, dt: float | None, impression: Impression) -> Judged:
        calibrator, memory, remembered = self.model.calibrator, self._memories[track], impression.remembered
        assert remembered is not None
        memory.artefact = calibrator.smooth(memory.artefact, impression.artefact, dt or 0.0)
        memory.last_pts = frame.pts
        if memory.kept is not None:
            memory.kept.keep(impression.embedding, frame.pts)
        return Judged(
            moment=Moment(
                pts=frame.pts,
                artefact=memory.artefact,
                temporal=remembered.logit,
                logit=calibrator.logit(memory.artefact, remembered.logit),
                tau_s=_percentiles(remembered.tau_s),
            ),
            dt=dt,
            surprise=None if dt is None else remembered.surprise / float(calibrator.surprise_unit),
            artefact=impression.artefact,
            boundary=impression.boundary,
        )

    def _fresh(self, track: int) -> _Memory:
        memory = self._memories[track] = _Memory(self._seat.acquire(), kept=_Kept(track) if self.explains else None)
        return memory

    def _score(self, frame: Frame, seen: Observation, crop: Image, reason: ReasonCode | None, judged: Judged | None) -> Score:
        if seen.track not in self._records:
            self._records[seen.track] = TrackRecord(seen.track, frame.pts, frame.pts)
            self._faces += 1
        record = self._records[seen.track]
        record.last_pts = frame.pts
        record.observations += 1
        if reason is not None:
            record.refused[reason] += 1
        p = None
        if judged is not None:
            p = probability(judged.moment.logit)
            record.moments.append(judged.moment)
            record.keep(EvidenceCrop(frame.pts, frame.time_base, p, crop, judged.boundary))
        memory = self._memories.get(seen.track)
        since = None if judged or memory is None or memory.last_pts is None else float((frame.pts - memory.last_pts) * frame.time_base)
        x0, y0, x1, y1 = (float(v) for v in seen.face.box)
        return Score(
            track=seen.track,
            pts=frame.pts,
            time_base=frame.time_base,
            dt=judged.dt if judged else since,
            box=(x0, y0, x1, y1),
            logit=judged.moment.logit if judged else None,
            p=p,
            surprise=judged.surprise if judged else None,
            reason=reason,
            flags=tuple(sorted(frame.flags)),
            artefact=judged.artefact if judged else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One face at one moment, judged."""

    moment: Moment
    dt: float | None
    surprise: float | None
    artefact: float
    """The encoder's log-odds of this look alone."""
    boundary: Image


def analyse(
    source: str | os.PathLike[str],
    model: Model,
    *,
    hz: float | None = DEFAULT_HZ,
    limits: Limits | None = None,
    triaged: bool = False,
    explain: bool = False,
    read: Reader = read_frames,
    thresholds: Thresholds | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> AnalysisReport:
    """Judge one source from its first frame to its last, looking about `hz` times a second of media (None: at every frame).

    `triaged` looks at key pictures alone first, and closely only where they show a face; for archives in which few do.
    `explain` also says why the most suspicious track was judged as it was, in `AnalysisReport.explained`.
    `read` opens it: in this process, or as `service.media_sandbox` does, in a child that untrusted media cannot leave.
    `thresholds` decide instead of those that the weights came with.

    Raises:
        SourceError, DecodeError: the source cannot be judged.
        WeightsError: `explain`, but these weights cannot be explained.
        AnalysisCancelled: `cancelled()` said so, at most one frame ago.
    """
    with Walk(source, model, hz=hz, limits=limits, triaged=triaged, explain=explain, read=read, cancelled=cancelled) as walk:
        walk.on(on_progress=on_progress, cancelled=cancelled)
        return walk.report(thresholds)


class Walk:
    """One source on its way through an Analysis, in as many stretches as one likes; a context manager that lets go of the source.

    Args:
        source, model, hz, limits, triaged, explain, read: as `analyse` has them.
        cancelled: ends the first pass of a triage.
        bookmarks: of an earlier walk through the same source at the same rate; this one goes on from there, bit for bit. What was judged
            already is decoded again, since no picture can be had without those that it is built on, but not looked at.

    Raises:
        SourceError, DecodeError, WeightsError, AnalysisCancelled: as `analyse` does.
        BookmarkUnusable: the bookmarks are not of this source or model, or damaged.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        model: Model,
        *,
        hz: float | None = DEFAULT_HZ,
        limits: Limits | None = None,
        triaged: bool = False,
        explain: bool = False,
        read: Reader = read_frames,
        cancelled: Callable[[], bool] | None = None,
        bookmarks: Sequence[bytes] = (),
    ) -> None:
        self.analysis = Analysis(model, explain=explain)
        self._clock, self._triaged = self.analysis.clock, triaged
        if bookmarks:
            self.analysis.resume(bookmarks)
        self._walked = list(self.analysis.frame_pts)
        """PTS of the frames that were judged before, newest last; each is taken off as it comes by again."""
        self._walked.reverse()
        self._kept = self.analysis.frames
        closely = None
        if triaged:
            with self._clock.stage("triage"):
                closely, cpu_s = triage(source, model.detector, read=read, limits=limits, cancelled=cancelled)
            self._clock.add("triage", cpu_s)
        self._opened = ExitStack()
        self._frames = self._opened.enter_context(read(source, hz=hz, limits=limits, closely=closely))
        self._pictures = iter(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def on(
        self,
        media_s: float | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> bool:
        """Judge on for `media_s` seconds of media, or to the end (None). Returns whether there is more.

        After AnalysisCancelled it stands between two frames: a bookmark may be taken, or the walk go on.
        """
        until: float | None = None
        while True:
            if cancelled is not None and cancelled():
                raise AnalysisCancelled
            with self._clock.stage("decode"):
                frame = next(self._pictures, None)
            if frame is None:
                if self._walked:
                    raise BookmarkUnusable("A bookmark is of a longer source.", expected=f"a frame at {self._walked[-1]}", got="the end")
                return False
            if self._walked:
                self._pass(frame)
                continue
            self.analysis.push(frame)
            if on_progress is not None:
                on_progress(
                    Progress(
                        self._frames.counts.decoded,
                        self.analysis.frames,
                        frame.t,
                        self._frames.media.declared_duration_s,
                        self.analysis.faces,
                    )
                )
            if media_s is not None:
                until = frame.t + media_s if until is None else until
                if frame.t >= until:
                    return True

    @property
    def came_further(self) -> bool:
        """Whether anything was judged since the last bookmark."""
        return self.analysis.frames > self._kept

    def bookmark(self) -> bytes:
        """What was learnt since the last bookmark; see `Analysis.bookmark`."""
        self._kept = self.analysis.frames
        return self.analysis.bookmark()

    def report(self, thresholds: Thresholds | None = None) -> AnalysisReport:
        """Everything that is known once `on` has reached the end; see `Analysis.finish` for `thresholds`."""
        self._clock.add("decode", self._frames.cpu_s)
        duration_s = self._frames.media.declared_duration_s if self._triaged else None
        return AnalysisReport(
            verdict=self.analysis.finish(duration_s=duration_s, thresholds=thresholds),
            scores=tuple(self.analysis.scores),
            media=self._frames.media,
            counts=self._frames.counts,
            time=self._frames.report,
            warnings=tuple(self._frames.warnings),
            stages=self._clock.times(),
            model=self.analysis.model.info,
            frame_pts=self.analysis.frame_pts,
            explained=self.analysis.explained() if self.analysis.explains else None,
        )

    def _pass(self, frame: Frame) -> None:
        expected = self._walked.pop()
        if frame.pts != expected:
            raise BookmarkUnusable("A bookmark is of another source.", expected=f"a frame at {expected}", got=f"one at {frame.pts}")


def _reason_of_frame(seen: tuple[Observation, ...], reasons: list[ReasonCode | None]) -> ReasonCode | None:
    """Why a frame without a judged face has none: the largest face's reason speaks for it."""
    if not seen:
        return "no_face"

    def px(i: int) -> float:
        face: Face = seen[i].face
        return face.px

    return reasons[max(range(len(seen)), key=px)]


def _percentiles(tau: NDArray[np.float32]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(tau, [5, 50, 95])
    return float(low), float(middle), float(high)
