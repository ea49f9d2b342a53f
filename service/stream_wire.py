"""What a client and the service say to each other on a live stream: pydantic models of subprotocol `undercurrent.v1`.

Text frames are these, one JSON object each with its `type`; binary frames are media (`media_header.py`). `stream_connection.py` reads what
comes, `stream_session.py` makes what goes; `asyncapi.py` describes both.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from pipelines.time_report import Provenance
from service.schemas import ModelOut, Moment, TimelineRow, VerdictOut, Wire

PATH: Final = "/v1/stream"
ROUTE: Final = "route"
"""In the query: what a client makes up for a stream and says again when it goes on, so that a balancer leads it to the same replica."""
SUBPROTOCOL: Final = "undercurrent.v1"
Mode = Literal["pull", "container", "frames"]
Pace = Literal["every", "live"]


# What a client says.


class ResumeOf(Wire):
    """Which session to go on with, and the last event that came of it."""

    session_id: str = Field(max_length=64)
    token: str = Field(max_length=128, description="That of `ready`.")
    last_event_seq: int = Field(ge=0, description="0: none came.")


class Start(Wire):
    """Begin a stream, or go on with one. The first message, within ten seconds."""

    type: Literal["start"]
    mode: Mode | None = Field(
        default=None, description="Who brings the pictures: the service from `url`; chunks of one container; single pictures with stamps."
    )
    url: str | None = Field(default=None, max_length=2048, description="Mode `pull` alone: where the camera is.")
    codec: Literal["jpeg", "webp"] | None = Field(default=None, description="Mode `frames` alone: of every picture. WebP must be lossy.")
    pace: Pace | None = Field(
        default=None,
        description="`every`: each wanted picture is looked at, and the sender is held back, as a file deserves; what `container` does. "
        "`live`: the newest picture counts, and what was left out is told; what the others do, and all that `pull` can.",
    )
    resume: ResumeOf | None = Field(default=None, description="Go on with a session, instead of all the others.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.resume is not None:
            if self.mode is not None or self.url is not None or self.codec is not None or self.pace is not None:
                raise ValueError("with `resume`, expected nothing else")
            return self
        if self.mode is None:
            raise ValueError("expected `mode` or `resume`")
        for name, value, owner in (("url", self.url, "pull"), ("codec", self.codec, "frames")):
            if (value is not None) != (self.mode == owner):
                raise ValueError(f"expected `{name}` with mode `{owner}`, and with no other")
        if self.mode == "pull" and self.pace == "every":
            raise ValueError("mode `pull` can only be `live`: a camera does not wait")
        return self


class Ack(Wire):
    """Events up to this one need not be kept for a resume any more."""

    type: Literal["ack"]
    event_seq: int = Field(ge=0)


class Pause(Wire):
    """Media will be missing for a while (ten minutes at most), on purpose; what a camera shows meanwhile is not looked at."""

    type: Literal["pause"]


class ResumeMedia(Wire):
    """The pause is over. The time that passed is a real distance."""

    type: Literal["resume_media"]


class Stop(Wire):
    """The media has ended: what came is judged to its end, then `end` follows."""

    type: Literal["stop"]


class Ping(Wire):
    """Are you there? Browsers cannot send WebSocket's own."""

    type: Literal["ping"]
    t: float = Field(allow_inf_nan=False, description="Comes back as it is.")


ClientMessage = Annotated[Start | Ack | Pause | ResumeMedia | Stop | Ping, Field(discriminator="type")]
client_message: Final[TypeAdapter[ClientMessage]] = TypeAdapter(ClientMessage)


# What the service says.


class Event(Wire):
    """Base of what is told of a session; numbered, kept for a minute, and told again after a resume."""

    event_seq: int | None = Field(default=None, ge=1, description="From 1 without a hole; null for an answer outside of any session.")
    session_id: str | None
    t: float | None = Field(default=None, description="Media seconds of the newest picture that was looked at; null before the first.")


class StreamLimits(Wire):
    """What a client may ask."""

    message_bytes: int = Field(description="Longest message, its header included; a longer one closes with 1009.")
    idle_s: float = Field(description="Without media for so long, the stream ends.")
    resume_s: float = Field(description="How long a session waits for a lost client.")
    media_s: float = Field(description="Longest container.")
    pixels: int = Field(description="Largest picture.")


class Allowance(Wire):
    """Media that may be sent, counted from the beginning of the session: the newest says all. Pieces beyond it are dropped and told."""

    media: int = Field(description="Binary messages.")
    bytes: int = Field(description="Of payload.")


class Ready(Event):
    """The session has begun."""

    type: Literal["ready"] = "ready"
    token: str = Field(description="Needed to go on with this session after a disconnection.")
    mode: Mode
    pace: Pace
    hz: float = Field(description="Looks a second at most.")
    threshold: float
    model: ModelOut
    limits: StreamLimits
    credit: Allowance


class StreamMedia(Wire):
    """What the source is."""

    container: str
    codec: str
    width: int
    height: int
    time_base: tuple[int, int]


class Source(Event):
    """How it is with the source of the pictures."""

    type: Literal["source"] = "source"
    state: Literal["connecting", "running", "stalled", "reconnecting", "ended", "failed"]
    attempt: int = Field(default=0, description="Which attempt to connect this is or was.")
    next_retry_s: float | None = None
    code: str | None = Field(default=None, description="Why, as in `error`.")
    media: StreamMedia | None = Field(default=None, description="Once it runs, as far as it is known.")


class LatencyStages(Wire):
    """Where the seconds went between a picture's arrival and its score; their sum is `latency_s`."""

    decode_s: float = Field(description="From its last packet to the decoded picture; 0 for what a client sends.")
    wait_s: float = Field(description="Until the picture before it was done with.")
    look_s: float = Field(description="Faces, encoder and memory, with the wait for other streams of the batch.")


class ScoreEvent(Event):
    """One look. When more wait than a client reads, the newest alone is sent, and says for how many it stands."""

    type: Literal["score"] = "score"
    at: Moment
    stamp: int = Field(description="The source's own timestamp in ticks: `at.pts` unless its timeline broke and was bridged.")
    provenance: Provenance
    p: float | None = Field(description="The highest of its faces; null when none was judged.")
    faces: list[TimelineRow]
    latency_s: float = Field(description="From the picture's arrival (what a client sends: from the decoded picture) to this.")
    stages: LatencyStages
    judged_at: float = Field(description="Unix seconds of this score, by the service's clock; the picture came `latency_s` before.")
    capture_epoch_us: int | None = Field(default=None, description="What the picture's header said; mode `frames` alone.")
    stands_for: int = Field(default=1, ge=1)


class FaceEvent(Event):
    """A face came into view, or was not seen for two seconds of media."""

    type: Literal["face"] = "face"
    track: int
    state: Literal["appeared", "left"]
    at: Moment


class GapEvent(Event):
    """The timeline has a hole. The memories were told its length; after a `discontinuity` nobody knows it."""

    type: Literal["gap"] = "gap"
    cause: Literal["missing", "discontinuity", "reconnected", "paused"]
    start: Moment = Field(description="The last picture before it, looked at or not; before an outage, the last that was looked at.")
    end: Moment = Field(description="The first after it.")
    seconds: float


class DropEvent(Event):
    """Media that nobody looked at, and why. `missing` never came, as the steady interval of a camera's other pictures tells; holes above a
    second are gaps. Over-credit chunks of a container can be sent again, from `next_seq`."""

    type: Literal["drop"] = "drop"
    cause: Literal["client_over_credit", "no_pts", "undecodable", "missing", "overtaken", "nets_failed", "paused"]
    n: int = Field(ge=1)
    since: float | None = Field(default=None, description="Media seconds at which it began, if that is known.")
    next_seq: int | None = Field(default=None, description="The `seq` that is expected next.")


class Credit(Event):
    """More media may be sent."""

    type: Literal["credit"] = "credit"
    credit: Allowance
    received: Allowance = Field(description="Taken so far; what was dropped is not in it.")


class Stats(Event):
    """How the stream does; every two seconds, so that a client can tell silence from death."""

    type: Literal["stats"] = "stats"
    received: Allowance
    waiting_bytes: int = Field(description="Of media that the decoder has not taken yet.")
    offered: int = Field(description="Pictures that were decoded and wanted.")
    looked_at: int
    overtaken: int
    shed: int
    nets_failed: int
    hz: float = Field(description="Looks a second that this stream gets now.")
    latency_p95_s: float | None = Field(description="Of the looks since the last stats; null without any.")
    events_waiting: int


class ErrorEvent(Event):
    """What went wrong, as a problem of the REST API says it. A close code follows."""

    type: Literal["error"] = "error"
    code: str
    title: str
    detail: str
    expected: str | None = None
    got: str | None = None
    retryable: bool
    retry_after_s: float | None = None


class Totals(Wire):
    received: Allowance
    dropped: int
    looked_at: int
    overtaken: int
    shed: int
    nets_failed: int
    scores_left_out: int = Field(description="Of looks whose score was not sent by itself, because the client read too slowly.")


class End(Event):
    """The last event: the verdict on what was looked at, at most the last ten minutes of it. A close code follows."""

    type: Literal["end"] = "end"
    reason: Literal["stopped", "source_ended", "idle", "failed", "draining"]
    verdict: VerdictOut | None = Field(description="Null where the nets failed for good.")
    totals: Totals


class Resumed(Wire):
    """The session goes on: the events after `last_event_seq` follow. Media is expected from `last_media_seq` + 1."""

    type: Literal["resumed"] = "resumed"
    session_id: str
    from_event_seq: int
    last_media_seq: int | None = Field(description="Null: none came.")
    credit: Allowance
    received: Allowance


class ResumeFailed(Wire):
    """The session cannot go on; begin another. Closes with 4404."""

    type: Literal["resume_failed"] = "resume_failed"
    reason: Literal["unknown", "missed"]
    missed: int | None = Field(default=None, description="Events that are not kept any more.")


class Pong(Wire):
    type: Literal["pong"] = "pong"
    t: float


SessionEvent = Ready | Source | ScoreEvent | FaceEvent | GapEvent | DropEvent | Credit | Stats | ErrorEvent | End
ServerMessage = Annotated[SessionEvent | Resumed | ResumeFailed | Pong, Field(discriminator="type")]
server_message: Final[TypeAdapter[ServerMessage]] = TypeAdapter(ServerMessage)
