"""From packets to pictures: an opened container in, decoded VideoFrames in the order of showing out. Driven by `frames.py`.

Errors of single packets are counted and stepped over; the end, a silence and a broken container all end the pictures, each with its trace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipelines.clock import Arrival
from pipelines.containers import Opened, check_pixels, pixels, plain
from pipelines.errors import MediaTooLarge, SourceUnreachable
from pipelines.media import FrameCounts, Limits


class _Grid:
    """Counts for AVI: a picture comes out when a later packet goes in, whose number it bears; how much later never changes."""

    def __init__(self) -> None:
        self._delay: int | None = None
        self._last: int | None = None

    def next(self, dts: int | None) -> int | None:
        """The next picture's place, from the number of the packet that brought it out; those that come last, without one, follow singly."""
        if dts is None:
            self._last = None if self._last is None else self._last + 1
        else:
            self._delay = dts if self._delay is None else self._delay
            self._last = dts - self._delay
        return self._last


class Decoder:
    """Decodes one stream once; all of it, or key pictures and some of the groups after them."""

    def __init__(
        self,
        opened: Opened,
        *,
        limits: Limits,
        counts: FrameCounts,
        closely: Collection[int] | None,
        now: Callable[[], float],
        pulse: Callable[[], None] | None,
        hole: Callable[[int], None],
    ) -> None:
        self._opened, self._codec = opened, opened.stream.codec_context
        self._limits, self._counts, self._closely, self._now, self._pulse = limits, counts, closely, now, pulse
        self._hole = hole
        # Packets go in by order of decoding and come out as pictures by order of showing; FFmpeg carries their number across.
        self._codec.copy_opaque = True
        self._order = self._bytes = 0
        self._grid = _Grid()
        self._lost = 0
        self._whole_group = False
        self._group_from: int | None = None
        self._arrived_s = 0.0
        self.sizes: list[tuple[int, int]] = []
        """Width and height, each time that they changed."""
        self._suspect = False
        self.broke_off: str | None = None
        """Why the container could not be read on, if it could not."""
        self.silence: str | None = None
        """Why a URL was given up, if it was."""

    def pictures(self) -> Iterator[VideoFrame]:
        """Every wanted picture.

        Raises:
            MediaTooLarge: a limit was passed.
            SourceUnreachable: a URL fell silent before its first picture.
        """
        for picture in self._pictures():
            self._check(picture)
            yield picture

    def order_of(self, picture: VideoFrame) -> int:
        """How many packets were decoded before the picture's own; before the last one, where its decoder does not say."""
        return picture.opaque if isinstance(picture.opaque, int) else self._order

    def stamp_of(self, picture: VideoFrame) -> int | None:
        """When the source says that the picture is shown; of a container that knows only an order, its place in that."""
        if picture.pts is None and "avi" in self._opened.container.format.name:
            return self._grid.next(picture.dts)
        return picture.pts

    def take_lost(self) -> int:
        """How many packets could not be decoded since this was asked last."""
        lost, self._lost = self._lost, 0
        return lost

    @property
    def sparse(self) -> bool:
        """Whether the pictures after the last one, up to the next key picture, are left out."""
        return self._closely is not None and not self._whole_group

    @property
    def arrival(self) -> Arrival | None:
        """When the last packet of a live source came, and what the sender said of UTC."""
        if not self._opened.live:
            return None
        utc_us = self._opened.container.start_time_realtime
        return Arrival(self._arrived_s, None if utc_us is None else utc_us / 1e6)

    def _pictures(self) -> Iterator[VideoFrame]:
        packets = iter(self._opened.container.demux(self._opened.stream))
        try:
            while not self._opened.closed:
                try:
                    packet = next(packets, None)
                except IndexError:
                    # A stream that begins later: PyAV 18.1 looks for it in the list made at opening. Its packet is behind us now.
                    packets = iter(self._opened.container.demux(self._opened.stream))
                    continue
                if packet is None:
                    return
                if self._pulse is not None:
                    self._pulse()
                if self._opened.live:
                    self._arrived_s = self._now()
                else:
                    self._bytes += packet.size
                    if self._bytes > self._limits.max_bytes:
                        raise MediaTooLarge(
                            "The source has too many bytes.", expected=f"at most {self._limits.max_bytes} bytes", got="more"
                        )
                yield from self._decode(packet) if self._closely is None else self._decode_closely(packet, self._closely)
            return
        except (av.error.TimeoutError, av.error.ExitError) as error:
            if self._counts.decoded == 0:
                expected = f"data within {self._limits.read_timeout_s:g} s"
                raise SourceUnreachable("The source sends nothing.", expected=expected, got=plain(error)) from None
            self.silence = plain(error)
        except av.error.FFmpegError as error:
            self._counts.decode_errors += 1
            self.broke_off = plain(error)
        yield from self._drained()

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        """What comes out when `packet` goes in: pictures of earlier packets too, where the order of showing is not that of decoding."""
        # The demuxer notices a hole when it has read past it, and marks the packet before the one with the hole (MPEG-TS, measured).
        if packet.is_corrupt or self._suspect:
            self._hole(self._order)
        self._suspect = packet.is_corrupt
        if packet.size:
            packet.opaque = self._order
        try:
            yield from self._codec.decode(packet)
        except av.error.FFmpegError as error:
            # With max_pixels set, a decoder that finds the picture too large does not even open.
            if not self._codec.is_open and isinstance(error, av.error.ArgumentError):
                expected = pixels(self._limits.max_pixels)
                raise MediaTooLarge("A picture has too many pixels.", expected=expected, got=plain(error)) from error
            self._counts.decode_errors += 1
            self._lost += 1
            self._hole(self._order)
        finally:
            self._order += 1

    def _decode_closely(self, packet: Packet[VideoStream], closely: Collection[int]) -> Iterator[VideoFrame]:
        """Key pictures alone, except where the whole group that follows one is wanted; the decoder starts anew at each border."""
        if packet.size == 0:
            yield from self._drained() if self._whole_group else ()
            return
        if packet.is_keyframe:
            whole = packet.pts in closely
            if self._whole_group and not whole:
                yield from self._drained()
            if not (self._whole_group and whole):
                self._codec.flush_buffers()
                self._group_from = packet.pts
            self._whole_group = whole
        elif not self._whole_group:
            return
        for picture in self._decode(packet):
            # Pictures shown before the key picture they follow need the group that was left out.
            if picture.pts is None or self._group_from is None or picture.pts >= self._group_from:
                yield picture
        if not self._whole_group:
            yield from self._drained()

    def _drained(self) -> Iterator[VideoFrame]:
        """The pictures that the decoder still holds."""
        try:
            yield from self._codec.decode(None)
        except av.error.FFmpegError:
            self._counts.decode_errors += 1

    def _check(self, picture: VideoFrame) -> None:
        self._counts.decoded += 1
        if self._counts.decoded > self._limits.max_frames:
            raise MediaTooLarge("The video has too many frames.", expected=f"at most {self._limits.max_frames} frames", got="more")
        size = (picture.width, picture.height)
        if not self.sizes or size != self.sizes[-1]:
            check_pixels(*size, self._limits)
            self.sizes = [*self.sizes[-7:], size]
