"""The hall: bytes become `Frame`s with their real timestamps. `analysis.py` takes what it yields.

How to take video into a model, in the order in which a picture meets it: `containers.py` opens, `decoding.py` decodes, `placing.py` asks
`clock.py` when it was and `taint.py` whether it is whole, `sampling.py` says whether it is wanted, `pictures.py` makes it RGB, and
`time_report.py` remembers what its time was like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import Final, Self

import av
from av.video.frame import VideoFrame

from pipelines.clock import Arrival, MediaClock, Place
from pipelines.containers import Opened, Source, open_source
from pipelines.decoding import Decoder
from pipelines.errors import DecodeError, MediaTooLarge, NoTimestamps, SourceError
from pipelines.image_pool import ImagePool, Pool
from pipelines.media import BREAKS, DAMAGE, Frame, FrameCounts, FrameFlag, Limits, MediaInfo, MediaWarning, RtspTransport
from pipelines.pictures import Converter, is_partial
from pipelines.placing import Placing, Seen
from pipelines.sampling import Sampler
from pipelines.skew import Skew
from pipelines.taint import Taint
from pipelines.time_report import Provenance, TimeKeeper, TimeReport

# How many bits a stamp has before it starts again at 0, for the formats in which it does.
WRAP_BITS: Final = {"mpegts": 33, "mpeg": 33, "hls": 33, "rtsp": 32, "rtp": 32}
# One such source may hold several timelines, one after another: concatenated streams, advertisements, a restarted camera.
SEVERAL_TIMELINES: Final = frozenset({"mpegts", "mpeg", "hls", "rtsp", "rtp", "flv"})
RTP: Final = frozenset({"rtsp", "rtp"})
# Where a picture that never came leaves no trace but a longer interval, and H.264 goes on decoding from the wrong one.
LOSSY: Final = frozenset({"mpegts", "hls", "rtsp", "rtp"})
BOTTOM_FIRST: Final = (3, 4)  # AV_FIELD_BB and _TB of FFmpeg's AVFieldOrder: by what is shown first, not by what is coded first
REPAIRS: Final = {
    "hdr_tonemapped": "The video is HDR; its tones were mapped to standard range.",
    "alpha_flattened": "The video is partly transparent; it was laid over black.",
    "colours_assumed": "The video names a colour matrix that cannot be converted; its colours were read as BT.709 or BT.2020.",
    "interlaced": "The video is interlaced; one field of each picture was taken.",
}


@dataclass(slots=True)
class _Held:
    """A wanted picture that waits to see whether the next one has the same stamp."""

    picture: VideoFrame
    place: Place
    flags: set[FrameFlag] = field(default_factory=set)
    dropped_before: int = 0
    missing_before: int = 0
    missing_since: int | None = None
    gap_since: int | None = None
    arrival: Arrival | None = None


class FrameSource:
    """An opened video, to be iterated once; a context manager that always closes its container."""

    def __init__(
        self,
        opened: Opened,
        *,
        hz: float | None,
        limits: Limits,
        closely: Collection[int] | None,
        clock: MediaClock,
        now: Callable[[], float],
        pulse: Callable[[], None] | None,
        pool: Pool,
    ) -> None:
        stream, container = opened.stream, opened.container
        base = Fraction(stream.time_base or 0)  # `containers.py` refuses a stream without
        average = stream.average_rate
        self.media = MediaInfo(
            container=container.format.name,
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            time_base=base,
            nominal_fps=float(average) if average else None,
            declared_duration_s=opened.declared_duration_s,
            size_bytes=opened.size_bytes,
            decode_backend=opened.backend,
        )
        self.counts = FrameCounts()
        self.warnings: list[MediaWarning] = []
        self.clock = clock
        self.disconnected = False
        """Whether a live source ended: cameras do not, so whoever watches one connects again, with this `clock`."""
        self._opened, self._limits, self._closely = opened, limits, closely
        kinds = frozenset(self.media.container.split(","))
        self._sampler, self._converter = Sampler(hz), Converter(pool, bottom_first=stream.codec_context.field_order in BOTTOM_FIRST)
        self._keeper = TimeKeeper(base, self.media.nominal_fps)
        self._provenance: Provenance = "rtp" if kinds & RTP else "container_cfr" if "avi" in kinds else "container"
        self._lossy = bool(kinds & LOSSY)
        taint = Taint()
        self._decoder = Decoder(opened, limits=limits, counts=self.counts, closely=closely, now=now, pulse=pulse, hole=taint.hole)
        self._placing = Placing(
            self._decoder,
            clock,
            taint,
            self.counts,
            edited="mov" in kinds,
            lossy=self._lossy and self.media.codec == "h264" and closely is None,
            live=opened.live,
        )
        self._lost = self._missing = 0
        self._missing_since: int | None = None
        self._gap_since: int | None = None
        self._before: int | None = None
        """The place of the last picture, wanted or not."""
        self._carried: set[FrameFlag] = set()
        """Breaks of time before pictures that nobody wanted, for the next that somebody does."""
        self._end = 0
        self._after_sparse = False
        self._skew = Skew()
        self._used = False
        clock.join(
            base,
            wrap_bits=next((WRAP_BITS[kind] for kind in kinds if kind in WRAP_BITS), None),
            jumps=bool(kinds & SEVERAL_TIMELINES),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the wanted Frames in order of time.

        Raises:
            DecodeError: not one frame came out.
            MediaTooLarge: a limit was passed on the way.
            SourceUnreachable: a URL fell silent before its first picture.
            SourceError: the byte feed failed, or the source was iterated before.
        """
        if self._used:
            raise SourceError("A source can be read once.", expected="a newly opened source", got="one that was read before")
        self._used = True
        yield from self._wanted()
        if self._opened.closed:
            return
        # An early end is a disconnection too: `_wanted` comes back from whatever ended the pictures.
        self.disconnected = self._opened.live
        self._conclude()

    def close(self) -> None:
        """Let go of the file or connection; may be called twice."""
        self._opened.close()

    def look(self, hz: float | None) -> None:
        """Another rate from the next frame on; see `pipelines.media.Frames`."""
        self._sampler.look(hz)

    @property
    def pixel_aspect(self) -> Fraction:
        """The width of a pixel over its height, as the source says; it says so of pictures that are not turned."""
        said = self._opened.stream.sample_aspect_ratio
        return Fraction(said) if said else Fraction(1)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that another process spent on this source: none, it is decoded here."""
        return 0.0

    @property
    def report(self) -> TimeReport:
        """How the source keeps time, as far as it was read."""
        counts, clock = self.counts, self.clock
        return self._keeper.report(
            provenance=self._provenance,
            complete=self._closely is None,
            counts={
                "duplicates": counts.duplicate,
                "no_pts": counts.no_pts,
                "backward": counts.backward,
                "wraps": clock.wraps,
                "epochs": clock.epoch + 1,
                "corrupt": counts.corrupt,
                "tainted": counts.tainted,
                "partial": counts.partial,
                "decode_errors": counts.decode_errors,
            },
        )

    def _wanted(self) -> Iterator[Frame]:
        """Convert the wanted ones.

        All but live ones wait for the next: of two with one stamp the later counts, because encoders that split a key picture into two
        access units send its first part alone (research/streaming.md, row 11).
        """
        held: _Held | None = None
        for seen in self._placing.pictures():
            place = seen.place
            self._lost += self._decoder.take_lost() + (place is None)
            if place is None:
                continue
            if place.kind == "duplicate":
                self.counts.duplicate += 1
                if held is not None and held.place.pts == place.pts:
                    held.picture, held.flags = seen.picture, (held.flags - DAMAGE) | seen.flags | {"duplicate"}
                continue
            if held is not None:
                yield from self._shown(held)
                held = None
            breaks = self._breaks(place)
            if "gap" in breaks and "gap" not in self._carried:
                self._gap_since = self._before
            self._carried |= breaks
            if self._lossy and place.missing and place.kind == "next":
                self._miss(place.missing, self._before)
            self._before = place.pts
            self._saw(seen, place)
            if self._sampler.wants(place.pts, self.media.time_base):
                flags, missing = self._carried | seen.flags, self._missing
                held = _Held(seen.picture, place, flags, self._lost, missing, self._missing_since, self._gap_since, self._decoder.arrival)
                self._carried, self._lost, self._missing, self._missing_since, self._gap_since = set(), 0, 0, None, None
                if self._opened.live:
                    yield from self._shown(held)
                    held = None
        if held is not None:
            yield from self._shown(held)

    def _shown(self, held: _Held) -> Iterator[Frame]:
        """The picture as a Frame; nothing where it cannot be converted, which is counted as damage."""
        try:
            image = self._converter.rgb(held.picture)
        except av.error.FFmpegError:
            self.counts.decode_errors += 1
            self._lost += 1 + held.dropped_before
            self._miss(held.missing_before, held.missing_since)
            self._carried |= held.flags & BREAKS
            self._gap_since = held.gap_since if "gap" in held.flags else self._gap_since
            return
        if is_partial(held.picture):
            self.counts.partial += 1
            held.flags.add("partial")
        self.counts.yielded += 1
        yield Frame(
            image=image,
            pts=held.place.pts,
            time_base=self.media.time_base,
            provenance="arrival" if held.place.kind == "bridged_arrival" else self._provenance,
            flags=frozenset(held.flags),
            dropped_before=held.dropped_before,
            missing_before=held.missing_before,
            missing_since=held.missing_since,
            gap_since=held.gap_since,
            epoch=held.place.epoch,
            shift=held.place.shift,
            arrival=held.arrival,
        )

    def _miss(self, n: int, since: int | None) -> None:
        """So many pictures never came after the one at `since`; the next Frame says so."""
        if n:
            known = [one for one in (self._missing_since, since) if one is not None]
            self._missing, self._missing_since = self._missing + n, min(known, default=None)

    def _breaks(self, place: Place) -> set[FrameFlag]:
        """What happened to the time before this picture. Between key pictures there is no gap: what lies there was not looked at."""
        if place.kind == "discontinuity":
            return {"discontinuity"}
        gap = place.kind in ("bridged_utc", "bridged_arrival") or (place.kind == "gap" and self._closely is None)
        return {"gap"} if gap else set()

    def _saw(self, seen: Seen, place: Place) -> None:
        self._end = place.pts + (seen.picture.duration or 0)
        self._keeper.saw(place.pts, seen.index, gap="gap" in self._breaks(place), whole=not self._after_sparse)
        self._after_sparse = seen.sparse
        if arrival := self._decoder.arrival:
            self._watch_clock(place, arrival)
        # A camera does not end.
        if self._keeper.span_s > self._limits.max_duration_s and not self._opened.live:
            raise MediaTooLarge(
                "The video is too long.",
                expected=f"at most {self._limits.max_duration_s:.0f} s of media",
                got=f"more than {self._limits.max_duration_s:.0f} s",
            )

    def _watch_clock(self, place: Place, arrival: Arrival) -> None:
        if place.kind != "next":
            self._skew.restart()
        self._skew.saw(arrival.at_s, float(place.pts * self.media.time_base))
        if rate := self._skew.rate:
            self._warn("clock_skew", f"The camera's clock tells {rate:.3f} s for each second that passes; scores keep its timestamps.")

    def _warn(self, code: str, detail: str) -> None:
        if all(warning.code != code for warning in self.warnings):
            self.warnings.append(MediaWarning(code, detail))

    def _conclude(self) -> None:
        counts = self.counts
        if self._opened.feed is not None:
            self._opened.feed.raise_error(self._opened.name)
        if counts.yielded == 0:
            if counts.decoded == 0 and self._placing.edited and self._opened.feed is not None and not self._opened.feed.can_seek:
                raise DecodeError(
                    f"{self._opened.name} has its index at its end, where a feed that cannot go back does not come.",
                    expected="an mp4 with its index first (faststart) or in fragments, or a source with seek",
                    got="an index after the pictures",
                )
            unstamped = 0 < counts.no_pts == counts.decoded
            kind, says = (
                (NoTimestamps, "has no timestamps") if unstamped else (DecodeError, "could be opened, but no picture could be read")
            )
            raise kind(
                f"{self._opened.name} {says}.",
                expected="at least one decodable frame with a timestamp",
                got=f"{counts.decoded} decoded, {counts.no_pts} without a timestamp, {counts.decode_errors} errors",
            )
        for code in sorted(self._converter.repairs):
            self._warn(code, REPAIRS[code])
        sizes = self._decoder.sizes
        if len(sizes) > 1:
            self._warn("size_changed", f"The size of the picture changes: {', '.join(f'{w} x {h}' for w, h in sizes)}.")
        if self._decoder.silence is not None:
            expected = f"data within {self._limits.read_timeout_s:g} s"
            self._warn("stalled", f"The source fell silent ({self._decoder.silence}); expected {expected}.")
        if self.disconnected:
            self._warn("disconnected", "The camera went away.")
        if counts.corrupt or counts.decode_errors or counts.partial:
            self._warn(
                "corrupt_frames",
                f"{counts.corrupt} damaged and {counts.partial} half-filled pictures, {counts.decode_errors} undecodable packets; "
                f"{counts.tainted} more were built on damage.",
            )
        elif counts.tainted:
            self._warn("pictures_missing", f"{counts.tainted} pictures may be built on others that were lost; they are not judged.")
        if counts.duplicate or counts.backward or counts.no_pts or self.clock.epoch or self.clock.wraps:
            self._warn(
                "timestamps_repaired",
                f"{counts.duplicate} repeated, {counts.backward} backward and {counts.no_pts} missing timestamps, "
                f"{self.clock.wraps} wraps, {self.clock.epoch} breaks of the timeline.",
            )
        if self._closely is None and not self.clock.epoch:
            self._compare_with_declared_end()

    def _compare_with_declared_end(self) -> None:
        if self._decoder.broke_off is not None:
            self._warn("truncated", f"The file breaks off at {float(self._end * self.media.time_base):.1f} s ({self._decoder.broke_off}).")
        declared = self._opened.declared_end_s
        if declared is not None:
            end = float(self._end * self.media.time_base)
            if declared - end > max(1.0, 0.05 * declared):
                self._warn("truncated", f"The file says that it ends at {declared:.1f} s, but its pictures end at {end:.1f} s.")


def read_frames(
    source: Source,
    *,
    hz: float | None = 12.0,
    limits: Limits | None = None,
    closely: Collection[int] | None = None,
    hwaccel: str | None = None,
    live: bool = False,
    transport: RtspTransport = "tcp",
    clock: MediaClock | None = None,
    name: str | None = None,
    now: Callable[[], float] = time.monotonic,
    pulse: Callable[[], None] | None = None,
    pool: Pool | None = None,
) -> FrameSource:
    """Open `source`, to be iterated for its Frames in order of time: all decoded, about `hz` a second converted (None: all).

    Args:
        source: a path; an http(s) or rtsp(s) URL; or anything with `read(n)`, and `seek`, `tell`, `seekable` where it can go back.
        closely: None decodes everything. Else only key pictures are (flag `sparse`), and the whole group after those whose stamp is in it:
            `()` for a first look at an archive, 8 times faster, then the stamps (`pts - shift`) of those worth a second (`triage.py`).
        hwaccel: hardware to decode with (`cuda`), where there is any; `media.decode_backend` says what it came to.
        live: a URL's media is being filmed, so that each picture is wanted at once and the end is a disconnection; always so for RTSP.
        transport: how an rtsp:// camera is to send; rtsps:// is always one connection.
        clock: of an earlier session of the same camera, so that the outage between becomes a real dt.
        name: what to call the source in messages; its own name without directories or credentials if None.
        now: the monotonic clock by which live packets arrive, in seconds; it bridges sessions, the model never sees it.
        pulse: called at every packet, for whoever watches that the source is alive.
        pool: where the images lie; memory of this process if None.

    Raises:
        SourceError: it cannot be opened as video; see the tree in `errors.py`.
    """
    limits = limits or Limits()
    opened = open_source(source, limits, hwaccel=hwaccel, live=live, transport=transport, known_as=name)
    try:
        frames = FrameSource(
            opened, hz=hz, limits=limits, closely=closely, clock=clock or MediaClock(), now=now, pulse=pulse, pool=pool or ImagePool()
        )
    except BaseException:
        opened.close()
        raise
    if hwaccel is not None and opened.backend != hwaccel:
        frames.warnings.append(MediaWarning("hwaccel_unavailable", f"{hwaccel} cannot decode here; the processor did."))
    return frames


def probe(source: Source, *, limits: Limits | None = None) -> MediaInfo:
    """Open, check against `limits` and decode one picture; raises the error that reading would raise first."""
    with read_frames(source, hz=None, limits=limits) as frames:
        next(iter(frames))
        return frames.media
