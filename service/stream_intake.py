"""What a client sends of media: header and payload come in, bytes for the decoder go into its feed, and the credit is kept.

Owned by `stream_session.py`, on the event loop. A piece beyond the credit is dropped. Of single pictures the next one is as good; but a
chunk of a container cannot be missed, so those after a dropped one are dropped too, until it is sent again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from service.media_feed import MediaFeed
from service.media_header import BadMedia, MediaFlag, MediaHeader, MediaKind
from service.picture_container import PictureCodec, beginning, picture
from service.problems import ServiceError
from service.stream_wire import Allowance

WINDOW_MEDIA: Final = 64
WINDOW_BYTES: Final = 4 * 1024**2
MESSAGE_BYTES: Final = 2 * 1024**2
# Credit is told in steps of a quarter, so that small pieces do not cost an event each; and whenever nothing waits.
STEP: Final = 4
ABUSE: Final = 64
"""Pieces beyond the credit, less those within it, after which there is no point in going on."""


class OutOfOrder(ServiceError):
    slug = "media-out-of-order"
    title = "Media came out of order"
    status = 409


class OverCredit(ServiceError):
    slug = "over-credit"
    title = "Media was sent beyond the credit again and again"
    status = 429


Dropped = Literal["client_over_credit", "no_pts"]


@dataclass(frozen=True, slots=True)
class Told:
    """What a header said of its picture."""

    pts_us: int
    capture_epoch_us: int | None
    discontinuity: bool


class Intake:
    """Takes the media of one session; `codec` of single pictures, None for chunks of a container."""

    def __init__(self, feed: MediaFeed, codec: PictureCodec | None) -> None:
        self.feed = feed
        self._codec = codec
        self.next_seq = 0
        self.received = Allowance(media=0, bytes=0)
        self._taken = Allowance(media=0, bytes=0)
        self.allowance = Allowance(media=WINDOW_MEDIA, bytes=WINDOW_BYTES)
        """As told last."""
        self._abuse = 0
        self._missing = False
        self._cut = False
        """A picture that nobody will see said that something else is filmed from it on."""
        self.told: deque[Told] = deque(maxlen=4 * WINDOW_MEDIA)
        """Of pictures that were taken in and not looked at yet; read by the thread that gets them back decoded."""
        if codec is not None:
            feed.put(beginning(codec), 0)

    def take(self, header: MediaHeader, payload: memoryview) -> Dropped | None:
        """Take a piece, or say why it was dropped. Where nothing is left for the decoder to take, there may be a new `allowance` to tell.

        Raises:
            BadMedia: its kind is not the session's.
            OutOfOrder: its number is not the next.
            OverCredit: it is one too many beyond the credit.
            UnsupportedPicture: it is not of the session's codec.
        """
        self._check_kind(header.kind)
        if header.seq != self.next_seq and not (self._missing and header.seq > self.next_seq):
            raise OutOfOrder("Media came out of order.", expected=f"seq {self.next_seq}", got=str(header.seq))
        dropped = self._take_next(header, payload)
        # A picture that was dropped does not come again, a chunk does.
        if header.flags & MediaFlag.LAST and (dropped is None or self._codec is not None):
            self.feed.end()
        return dropped

    def _take_next(self, header: MediaHeader, payload: memoryview) -> Dropped | None:
        self._cut |= bool(header.flags & MediaFlag.DISCONTINUITY)
        if header.seq != self.next_seq:
            # Sent before its client could hear of the drop: no abuse, unless it is beyond the credit as well.
            return self._over_credit(len(payload), abuse=header.seq >= self.allowance.media)
        if not self._within_credit(len(payload)):
            return self._over_credit(len(payload), abuse=True)
        data: bytes | memoryview = payload
        if self._codec is not None and payload:
            if header.pts_us is None:
                self._pass_over(len(payload))
                return "no_pts"
            data = picture(self._codec, header.pts_us, payload)
            self.told.append(Told(header.pts_us, header.capture_epoch_us, self._cut))
            self._cut = False
        self._missing = False
        self._abuse = max(0, self._abuse - 1)
        self.next_seq += 1
        self.received = _sum(self.received, 1, len(payload))
        if payload:
            self.feed.put(data, len(payload))
        else:
            self.taken(0)
        return None

    def taken(self, size: int) -> bool:
        """The decoder took a piece of so many bytes. Returns whether a new allowance is to be told."""
        self._taken = _sum(self._taken, 1, size)
        allowed = _sum(self._taken, WINDOW_MEDIA, WINDOW_BYTES)
        more = Allowance(media=allowed.media - self.allowance.media, bytes=allowed.bytes - self.allowance.bytes)
        if more.media < WINDOW_MEDIA // STEP and more.bytes < WINDOW_BYTES // STEP and self.feed.waiting_bytes:
            return False
        self.allowance = allowed
        return True

    def _check_kind(self, kind: MediaKind) -> None:
        if self._codec is not None:
            fits = kind.name.lower() == self._codec
        else:
            fits = kind is MediaKind.CHUNK or (kind is MediaKind.INIT and self.next_seq == 0)
        if not fits:
            expected = f"kind {self._codec}" if self._codec else "kind chunk (init: only the first)"
            raise BadMedia("The media is not of this stream's kind.", expected=expected, got=kind.name.lower())

    def _within_credit(self, size: int) -> bool:
        return self.received.media + 1 <= self.allowance.media and self.received.bytes + size <= self.allowance.bytes

    def _over_credit(self, size: int, *, abuse: bool) -> Dropped:
        self._abuse += abuse
        if self._abuse >= ABUSE:
            raise OverCredit(
                "Media was sent beyond the credit again and again.", expected="to wait for `credit`", got=f"{ABUSE} pieces more"
            )
        if self._codec is None:
            self._missing = True
        else:
            self._pass_over(size)
        return "client_over_credit"

    def _pass_over(self, size: int) -> None:
        """A picture came and goes nowhere: its client has spent credit on it, and gets it back."""
        self.next_seq += 1
        self.received = _sum(self.received, 1, size)
        self.taken(size)


def _sum(allowance: Allowance, media: int, octets: int) -> Allowance:
    return Allowance(media=allowance.media + media, bytes=allowance.bytes + octets)
