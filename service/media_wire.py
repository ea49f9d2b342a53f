"""What the decode child and its parent say to each other: JSON both ways, checked by the parent, because the child reads hostile media.

Frames travel beside it in shared memory (`FRAME_SLOTS` slots of the largest picture allowed); `Shown` says which slot holds one, `Written`
which one a piece of a rendition, and the parent answers with the slot's number as one byte when it has copied it. Eight bytes from the
parent are another rate (`RATE`).
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from pipelines.clock import Arrival, Mark
from pipelines.media import Frame, FrameCounts, FrameFlag, Limits, MediaInfo, MediaWarning, RtspTransport
from pipelines.rendition import RenditionTerms
from pipelines.time_report import Provenance, TimeReport
from service.schemas import ContentCredentials

FRAME_SLOTS: Final = 4
MAX_MESSAGE_BYTES: Final = 256 * 1024
RATE: Final = struct.Struct("<d")
"""Frames a second of media that the parent wants from now on; infinite for all."""
READY: Final = b"ready"  # what the zygote says once it can fork


def _printable(value: object) -> object:
    """Text without control characters, wherever it lies: it may reach a terminal."""
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "\ufffd" for character in value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return {key: _printable(item) for key, item in value.items()} if isinstance(value, dict) else value


class Message(BaseModel):
    """Base of what is said."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Request(Message):
    """Parent to child, in a descriptor of its own, since it may be long: what to read.

    A file or feed is another descriptor, called `name`; only a URL is spelt out, and `name` then is what may be said of it.
    """

    url: str | None
    name: str
    hz: float | None
    limits: Limits
    closely: frozenset[int] | None
    live: bool = False
    after: Mark | None = None
    """The last picture of an earlier session of the same camera."""
    proxy: str | None = None
    """What the child is to take for an HTTP proxy."""
    transport: RtspTransport = "tcp"
    rendition: RenditionTerms | None = None
    """Whether a rendition is wanted, rather than Frames."""
    credentials: str | None = None
    """Whether nothing but content credentials are wanted, and what kind of media this is (`content_credentials.TYPES`)."""


class Started(Message):
    """The child is there, and locked up as far as this system lets it."""

    kind: Literal["started"] = "started"
    network_gone: bool
    files_gone: bool
    """Whether it can open no file, make none and signal nobody (Landlock)."""
    network_gated: bool = False
    """Whether it connects only by asking; the descriptor at which it asks comes with this message."""


class Opened(Message):
    """The source is a video."""

    kind: Literal["opened"] = "opened"
    media: MediaInfo


class Shown(Message):
    """A Frame lies in `slot`."""

    kind: Literal["shown"] = "shown"
    slot: int = Field(ge=0, lt=FRAME_SLOTS)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    pts: int = Field(gt=-(2**63), lt=2**63)
    provenance: Provenance
    flags: frozenset[FrameFlag]
    dropped_before: int = Field(ge=0)
    missing_before: int = Field(default=0, ge=0, lt=2**63)
    missing_since: int | None = Field(default=None, gt=-(2**63), lt=2**63)
    gap_since: int | None = Field(default=None, gt=-(2**63), lt=2**63)
    epoch: int = Field(ge=0)
    shift: int = Field(gt=-(2**63), lt=2**63)
    arrival: Arrival | None = None
    decoded: int = Field(ge=0)


class Written(Message):
    """A piece of a rendition lies in `slot`, that belongs `at` its byte; the last picture that went into it was shown at `pts`."""

    kind: Literal["written"] = "written"
    slot: int = Field(ge=0, lt=FRAME_SLOTS)
    at: int = Field(ge=0, lt=2**63)
    size: int = Field(ge=1)
    pts: int = Field(gt=-(2**63), lt=2**63)
    decoded: int = Field(ge=0)


class Alive(Message):
    """Nothing to show yet, but the child works."""

    kind: Literal["alive"] = "alive"
    decoded: int = Field(ge=0)


class Ended(Message):
    """There are no more Frames."""

    kind: Literal["ended"] = "ended"
    counts: FrameCounts
    warnings: list[MediaWarning]
    report: TimeReport
    disconnected: bool
    cpu_s: float = Field(ge=0, allow_inf_nan=False)


class Credentials(Message):
    """All that was wanted of this source."""

    kind: Literal["credentials"] = "credentials"
    found: ContentCredentials


class Refused(Message):
    """A typed refusal; `slug` names its class."""

    kind: Literal["refused"] = "refused"
    slug: str
    detail: str
    expected: str
    got: str


FromChild = Annotated[
    Started | Opened | Shown | Written | Alive | Ended | Credentials | Refused, BeforeValidator(_printable), Field(discriminator="kind")
]
from_child: Final[TypeAdapter[FromChild]] = TypeAdapter(FromChild)


def shown(frame: Frame, slot: int, decoded: int) -> Shown:
    """What is said of `frame`, whose pixels lie in `slot`."""
    height, width = frame.image.shape[:2]
    return Shown(
        slot=slot,
        height=height,
        width=width,
        pts=frame.pts,
        provenance=frame.provenance,
        flags=frame.flags,
        dropped_before=frame.dropped_before,
        missing_before=frame.missing_before,
        missing_since=frame.missing_since,
        gap_since=frame.gap_since,
        epoch=frame.epoch,
        shift=frame.shift,
        arrival=frame.arrival,
        decoded=decoded,
    )
