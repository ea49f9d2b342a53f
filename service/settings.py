"""Settings of the service: environment variables `UNDERCURRENT_*` and the command line come in, one frozen value goes out.

Read once by `read_settings` and passed by hand; `app.py` takes it.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipelines.devices import DEVICE_WORDS
from pipelines.media import Limits, RtspTransport
from service.problems import ServiceError
from service.url_policy import Network

MIB = 1024**2
GIB = 1024**3


class SettingsError(ServiceError):
    """A setting has a value that cannot be used."""

    slug = "bad-settings"
    title = "The settings cannot be used"
    status = 500


_Seconds = Annotated[float, Field(gt=0, le=86_400)]


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """What live streams get of this machine, and how long one waits for its client."""

    max_streams: Annotated[int, Field(ge=1, le=256)] = 64
    """At once, those that wait for a lost client among them; the load may allow fewer."""
    latency_s: _Seconds = 0.3
    """From a picture's arrival to its score, for 95 of 100: beyond it all streams are looked at less often, then newcomers are refused."""
    low_hz: Annotated[float, Field(gt=0)] = 4.0
    """Looks a second that a stream gets at least."""
    start_s: _Seconds = 10.0
    """Until a connection has said `start`."""
    idle_s: _Seconds = 30.0
    """Without media."""
    pause_s: _Seconds = 600.0
    resume_s: _Seconds = 60.0
    """How long the session of a lost client is kept, and that of one that ended."""
    drain_s: _Seconds = 10.0
    """How long events may wait for a client that does not read."""
    outage_s: _Seconds = 600.0
    """How long a camera may show nothing while the service tries to reach it again."""
    rtsp_transport: RtspTransport = "tcp"
    """How rtsp:// cameras are to send; over `udp` pictures may be lost."""


@dataclass(frozen=True, slots=True)
class FeedTerms:
    """What the cameras that the service watches by itself may take."""

    max_feeds: Annotated[int, Field(ge=0, le=256)] = 64
    """Registered at once. Each needs a seat, as a live stream does."""
    album_bytes: Annotated[int, Field(ge=0)] = 16 * MIB
    """Of compressed pictures that are kept of each in memory, for the evidence of an alert to come."""
    kept_alerts: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Of each feed; the oldest go first."""
    kept_bytes: Annotated[int, Field(ge=0)] = 512 * MIB
    """Of the evidence of each feed's alerts."""


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What one key may ask of one replica."""

    per_minute: Annotated[int, Field(ge=1)] = 1200
    """Requests, on average; a minute's worth may come at once."""
    at_once: Annotated[int, Field(ge=1)] = 128
    """Requests that are under way, event streams and live streams among them."""


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "undercurrent"


def _default_replica() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "replica"


class Settings(BaseSettings):
    """What an operator may choose. A nested field is reached with `__`: `UNDERCURRENT_LIMITS__MAX_PIXELS`."""

    model_config = SettingsConfigDict(env_prefix="UNDERCURRENT_", env_nested_delimiter="__", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; on any but loopback, every request needs a key.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names a request may ask for; empty: loopback names while on loopback.")
    require_keys: bool = Field(False, description="Keys are needed on loopback too, as behind a proxy of this machine.")
    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Holds the database, media and evidence, or what is not elsewhere."
    )
    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host/name for several replicas; SQLite in the data directory when empty."
    )
    store_url: str | None = Field(
        None,
        description="s3://bucket/prefix that replicas share, reached by the usual AWS variables; the data directory when empty.",
    )
    max_upload_bytes: int = Field(2 * GIB, ge=1, description="Largest media accepted, in bytes.")
    min_free_bytes: int = Field(256 * MIB, ge=0, description="Uploads are refused while the disk has less than this left, in bytes.")
    upload_stall_s: _Seconds = Field(30.0, description="Seconds within which an upload must bring another 64 KiB, or its end.")
    upload_timeout_s: _Seconds = Field(3600.0, description="Seconds that may be spent waiting for one upload.")
    max_wait_s: float = Field(300.0, ge=0, description="Cap of `Prefer: wait=N`, in seconds.")
    hz: float = Field(12.0, gt=0, description="Frames judged for each second of media.")
    weights: Path | None = Field(None, description="Checkpoint file; the shipped one when empty.")
    device: str = Field("auto", pattern=DEVICE_WORDS, description="Where the nets run: auto, cpu, cuda (every GPU), or some, as cuda:0,1.")
    workers: int = Field(1, ge=1, le=16, description="Analyses that run at the same time.")
    replica: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default_factory=_default_replica, description="Name of this process among those of one database; it takes its own work up again."
    )
    replica_lost_s: float = Field(15.0, ge=1, le=3600, description="Seconds without a sign of life after which others take its work over.")
    segment_s: float = Field(15.0, gt=0, le=3600, description="Seconds of media between two bookmarks: what a crash costs at most.")
    retention_days: float | None = Field(None, gt=0, description="Days after its end that an analysis is kept; empty: for ever.")
    drain_notice_s: float = Field(0.0, ge=0, description="Seconds between not being ready and closing, for a load balancer to notice.")
    traces_endpoint: str | None = Field(None, description="OTLP collector (`http://host:4318`) that traces are sent to; empty: none.")
    camera_networks: tuple[Network, ...] = Field(
        ("public",), description="Where URLs may point: networks, and `public` for every address of the internet."
    )
    limits: Limits = Field(default_factory=Limits, description="What one untrusted file may ask of this machine.")
    keys: KeyTerms = Field(default_factory=KeyTerms, description="What one key may ask of this service.")
    streams: StreamTerms = Field(default_factory=StreamTerms, description="What live streams get of this machine.")
    feeds: FeedTerms = Field(default_factory=FeedTerms, description="What the cameras that the service watches by itself may take.")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_keys(self) -> bool:
        """Whether whoever has no key is turned away."""
        return self.require_keys or not self.is_loopback


def read_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` that are not None win over it.

    Raises:
        SettingsError: a value has the wrong type or range.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "UNDERCURRENT_" + "__".join(str(part).upper() for part in first["loc"])
        raise SettingsError(f"{name}: {first['msg']}.", expected="a valid setting", got=repr(first["input"])) from error
