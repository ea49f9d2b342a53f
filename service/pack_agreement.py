"""Whether the files of a pack agree: its manifest and texts come in, what they hold comes out, or a refusal. Used by `pack_check.py`.

A signature says that nobody changed a pack since; this says that it was not put together from two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final, TypeVar

from markupsafe import escape
from pydantic import TypeAdapter, ValidationError

from service.canonical import parsed
from service.pack_container import PackRefused
from service.pack_wire import Config, Decision, Manifest, MediaRecord, crop_name
from service.schemas import AnalysisResult, Timeline

T = TypeVar("T")
TEXTS: Final = frozenset({"config.json", "decisions.json", "index.html", "media.json", "result.json", "timeline.json"})
_DECISIONS: Final = TypeAdapter(list[Decision])


@dataclass(frozen=True, slots=True)
class Contents:
    """What a pack says."""

    result: AnalysisResult
    timeline: Timeline
    config: Config
    media: MediaRecord
    decisions: list[Decision]


def check_agreement(manifest: Manifest, texts: Mapping[str, bytes]) -> Contents:
    """Read them all, and hold them against each other.

    Raises:
        PackRefused: one is missing or too many, cannot be read, or contradicts another.
    """
    _same("files of text", TEXTS, frozenset(texts))
    contents = Contents(
        result=_read("result.json", texts, AnalysisResult.model_validate),
        timeline=_read("timeline.json", texts, Timeline.model_validate),
        config=_read("config.json", texts, Config.model_validate),
        media=_read("media.json", texts, MediaRecord.model_validate),
        decisions=_read("decisions.json", texts, _DECISIONS.validate_python),
    )
    _check_files(manifest, contents)
    _check_facts(manifest, contents)
    _check_time(contents)
    try:
        page = texts["index.html"].decode()
    except UnicodeDecodeError as error:
        raise PackRefused("index.html cannot be read.", expected="UTF-8", got="other bytes") from error
    if str(escape(contents.result.sentence)) not in page:
        raise PackRefused("index.html says something else than result.json.", expected=contents.result.sentence, got="another sentence")
    return contents


def _check_files(manifest: Manifest, contents: Contents) -> None:
    crops = {crop_name(track.id, crop.k, suffix) for track in contents.result.tracks for crop in track.crops for suffix in ("jpg", "png")}
    media = set() if contents.media.file is None else {contents.media.file}
    found = {one.name: one for one in manifest.files}
    _same("files", sorted(TEXTS | crops | media), sorted(found))
    for name in media:
        _same(f"sha256 and size of {name}", (contents.media.sha256, contents.media.size_bytes), (found[name].sha256, found[name].size))


def _check_facts(manifest: Manifest, contents: Contents) -> None:
    result, config, media = contents.result, contents.config, contents.media
    _same("sha256 of the media", manifest.media_sha256, media.sha256)
    _same("sha256 of the media", media.sha256, result.media.sha256)
    _same("facts about the media", media.facts, result.media)
    _same("model", [config.model], result.models)
    judged_by = (result.threshold, result.threshold_version, result.target_fpr)
    _same("threshold", (config.threshold, config.threshold_version, config.target_fpr), judged_by)
    _same("threshold", result.threshold, contents.timeline.threshold)
    _same("frames looked at", result.media.frames_analysed, len(contents.timeline.frame_pts))


def _check_time(contents: Contents) -> None:
    """Every time is that of its PTS, and of a frame that was looked at."""
    timeline, result = contents.timeline, contents.result
    if not all(0 < number < 2**31 for number in timeline.time_base):
        raise PackRefused("The time base is none.", expected="two numbers above 0, of 32 bits", got=f"{timeline.time_base}"[:200])
    if any(later < earlier for earlier, later in pairwise(timeline.frame_pts)):
        raise PackRefused("The timeline goes backward.", expected="PTS in order", got="others")
    moments = [moment for segment in result.segments for moment in (segment.start, segment.end)]
    moments += [moment for track in result.tracks for moment in (track.first, track.last, *(crop.at for crop in track.crops))]
    shares = [share for track in result.tracks if track.ledger is not None for share in track.ledger.shares]
    moments += [moment for share in shares for moment in (share.start, share.end)]
    # Larger ones cannot be told as a float.
    if (far := max(map(abs, (*timeline.frame_pts, *(moment.pts for moment in moments))), default=0)) >= 2**63:
        raise PackRefused("A PTS is none.", expected="a number of 64 bits", got=f"{far}"[:200])
    base, frames = Fraction(*timeline.time_base), frozenset(timeline.frame_pts)
    for row in timeline.rows:
        if row.pts not in frames or row.t != float(row.pts * base):
            raise PackRefused("A score is of no frame.", expected="the PTS of a frame, and its seconds", got=f"pts {row.pts}, t {row.t}")
    for moment in moments:
        _same("time base", timeline.time_base, moment.time_base)
        _same("seconds of a PTS", float(moment.pts * base), moment.t)
    _same("faces", sorted({row.track for row in timeline.rows}), sorted(track.id for track in result.tracks))


def _read(name: str, texts: Mapping[str, bytes], validate: Callable[[object], T]) -> T:
    try:
        return validate(parsed(name, texts[name]))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = "/".join(map(str, fault["loc"]))
        raise PackRefused(
            f"{name} does not hold what it must.", expected="what a pack of version 1 has there", got=f"{where}: {fault['msg']}"
        ) from error


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise PackRefused(f"The pack contradicts itself: {what}.", expected=f"{one}"[:200], got=f"{other}"[:200])
