"""Judging again what a pack is about: its contents, the media and a model come in, how far apart the numbers are goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pipelines.analysis import Model, analyse
from pipelines.media import Limits
from service.media_sandbox import MediaSandbox
from service.pack_agreement import Contents
from service.pack_container import PackRefused
from service.recipe import machine
from service.schemas import Timeline, TimelineRow, timeline

TOLERANCE: Final = 0.01
"""Of probabilities, on another machine: its libraries add in another order. On an equal one (`config.json`) none is given."""


def judge_again(contents: Contents, media: Path, model: Model) -> str:
    """Judge `media` as it was judged for the pack, and say how near the numbers came.

    Raises:
        PackRefused: another model, other frames or faces, or numbers that differ by more than they may.
        SourceError, DecodeError: the media cannot be judged here.
    """
    config, before = contents.config, contents.timeline
    if model.info.weights_sha256 != config.model.weights_sha256:
        expected, got = f"weights {config.model.weights_sha256}", model.info.weights_sha256
        raise PackRefused("It was judged with other weights than these (--weights).", expected=expected, got=got)
    limits = _limits(config.limits)
    try:
        thresholds = model.calibrator.thresholds_at(config.threshold, config.target_fpr) if config.threshold_version else None
    except ValueError as error:
        raise PackRefused("Its threshold is none.", expected="a probability between 0 and 1", got=f"{config.threshold}") from error
    with MediaSandbox() as sandbox:
        report = analyse(media, model, hz=config.hz, limits=limits, triaged=config.triaged, read=sandbox.reader, thresholds=thresholds)
    again = timeline(report)
    if before.frame_pts != again.frame_pts or _where(before) != _where(again):
        raise PackRefused("Judging again looked at other moments or faces.", expected="the PTS and faces of the pack", got="others")
    same = config.machine == machine(model.device) and before.rows == again.rows
    apart = max((_apart(one, other) for one, other in zip(before.rows, again.rows, strict=True)), default=0.0)
    if not same and (apart > TOLERANCE or config.machine == machine(model.device)):
        raise PackRefused("Judging again gives other scores.", expected=_allowed(contents, model), got=f"{apart:.3g} apart")
    if report.verdict.verdict != contents.result.verdict:
        raise PackRefused("Judging again gives another verdict.", expected=contents.result.verdict, got=report.verdict.verdict)
    return "the same to the last bit" if same else f"the same within {apart:.3g}, on another machine"


def _limits(named: dict[str, float]) -> Limits:
    ours = asdict(Limits())
    if unknown := sorted(set(named) - set(ours)):
        raise PackRefused("It has limits that this version does not know.", expected=", ".join(ours), got=", ".join(unknown)[:200])
    for name, value in named.items():
        if not 0 < value < 2**63:
            raise PackRefused("A limit is none.", expected="a number above 0, of 63 bits", got=f"{name} {value:g}"[:200])
    return Limits(**{name: type(ours[name])(value) for name, value in named.items()})


def _where(shown: Timeline) -> Sequence[tuple[int, int, float | None, bool]]:
    return [(row.track, row.pts, row.dt, row.p is None) for row in shown.rows]


def _apart(one: TimelineRow, other: TimelineRow) -> float:
    return 0.0 if one.p is None or other.p is None else abs(one.p - other.p)


def _allowed(contents: Contents, model: Model) -> str:
    if contents.config.machine == machine(model.device):
        return "equal numbers, on an equal machine"
    return f"at most {TOLERANCE} apart, on another machine"
