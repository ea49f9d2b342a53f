"""Why a live stream is closed: the refusal of any room comes in, the close code that tells a client what to do next goes out."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from models.errors import Refusal


class CloseCode(IntEnum):
    """Codes below 4000 are RFC 6455's."""

    DONE = 1000
    TOO_LONG = 1009
    FAULT = 1011
    DRAINING = 1012
    OVERLOADED = 1013
    BAD_MESSAGE = 4400
    KEY_ENDED = 4401
    URL_REFUSED = 4403
    UNKNOWN_SESSION = 4404
    IDLE = 4408
    CONFLICT = 4409
    TOO_LARGE = 4413
    UNSUPPORTED = 4415
    NO_VIDEO = 4422
    OVER_CREDIT = 4429
    UNREACHABLE = 4502
    STALLED = 4504

    @property
    def meaning(self) -> str:
        """What a client is to make of it."""
        return MEANINGS[self]

    @property
    def retryable(self) -> bool:
        """Whether the same may work later."""
        return self in RETRYABLE


MEANINGS: Final = {
    CloseCode.DONE: "`end` was the last event.",
    CloseCode.TOO_LONG: "A message was longer than `limits.message_bytes`.",
    CloseCode.FAULT: "The service failed; its log has the cause.",
    CloseCode.DRAINING: "The service stops; begin again elsewhere, or in a moment.",
    CloseCode.OVERLOADED: "There is no room; the `error` before says when to ask again.",
    CloseCode.BAD_MESSAGE: "A message could not be understood, or came when it may not.",
    CloseCode.KEY_ENDED: "The key, or the session of a browser, was revoked or has expired; the stream cannot be gone on with.",
    CloseCode.URL_REFUSED: "The service may not connect to that URL.",
    CloseCode.UNKNOWN_SESSION: "There is no such session any more, or the token is not its own.",
    CloseCode.IDLE: "Nothing came for too long, or what was sent was not read.",
    CloseCode.CONFLICT: "Media came out of order, or the session is gone on with on another connection.",
    CloseCode.TOO_LARGE: "The media exceeds a limit.",
    CloseCode.UNSUPPORTED: "The media is none that can be decoded.",
    CloseCode.NO_VIDEO: "The media has no video stream.",
    CloseCode.OVER_CREDIT: "Media was sent beyond the credit, again and again.",
    CloseCode.UNREACHABLE: "The source cannot be reached, or refuses.",
    CloseCode.STALLED: "The source was silent for longer than it may be.",
}
RETRYABLE: Final = frozenset(
    {CloseCode.DRAINING, CloseCode.FAULT, CloseCode.OVERLOADED, CloseCode.IDLE, CloseCode.UNREACHABLE, CloseCode.STALLED}
)
OF_SLUG: Final = {
    "overloaded": CloseCode.OVERLOADED,
    "model-failed": CloseCode.FAULT,
    "engine-closed": CloseCode.DRAINING,
    "bad-timestamp": CloseCode.BAD_MESSAGE,
    "media-too-large": CloseCode.TOO_LARGE,
    "no-video-stream": CloseCode.NO_VIDEO,
    "source-unreachable": CloseCode.UNREACHABLE,
    "source-silent": CloseCode.STALLED,
    "decoder-stalled": CloseCode.STALLED,
    "source-refused": CloseCode.UNREACHABLE,
    "source-absent": CloseCode.UNREACHABLE,
    "stream-draining": CloseCode.DRAINING,
    "unknown-session": CloseCode.UNKNOWN_SESSION,
    "events-missed": CloseCode.UNKNOWN_SESSION,
    "gone-on-elsewhere": CloseCode.CONFLICT,
    "internal-error": CloseCode.FAULT,
    "pull-not-supported": CloseCode.URL_REFUSED,
    "stream-idle": CloseCode.IDLE,
    "slow-reader": CloseCode.IDLE,
    "media-out-of-order": CloseCode.CONFLICT,
    "over-credit": CloseCode.OVER_CREDIT,
    "unauthenticated": CloseCode.KEY_ENDED,
    "url-not-allowed": CloseCode.URL_REFUSED,
    "bad-media-message": CloseCode.BAD_MESSAGE,
    "bad-stream-message": CloseCode.BAD_MESSAGE,
}


def close_code(error: Refusal) -> CloseCode:
    """The code that goes with a refusal."""
    return code_of_slug(error.slug)


def code_of_slug(slug: str) -> CloseCode:
    """The code that goes with a problem; what is not in the table is about media that cannot be decoded."""
    return OF_SLUG.get(slug, CloseCode.UNSUPPORTED)
