"""Settings of the service: environment variables `UNDERCURRENT_*` and the command line come in, one frozen value goes out.

Read once by `read_settings` and passed by hand; `app.py` takes it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as NotJson

from pipelines.devices import DEVICE_WORDS
from pipelines.media import Limits, RtspTransport
from pipelines.verdict import VerdictName
from service.problems import ServiceError
from service.url_policy import Network

MIB = 1024**2
GIB = 1024**3
DEFAULT_TENANT: Final = "default"
"""Whose everything is where nobody has keys."""
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
Scope = Literal["analyses:read", "analyses:write", "streams", "feeds", "webhooks", "reviews", "reviews:lead", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


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


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What one tenant may have of the service, so that there is some for the others."""

    max_unfinished: Annotated[int, Field(ge=1)] = 1000
    """Analyses that wait or run."""
    max_running: Annotated[int, Field(ge=1)] | None = None
    """Analyses that are worked on at once, by all replicas together; None: as many as there are workers."""
    max_bytes: Annotated[int, Field(ge=1)] = 1024 * GIB
    """Of media that is kept."""
    max_streams: Annotated[int, Field(ge=1)] | None = None
    """Live streams at once, of one replica; None: as many as there may be."""
    max_feeds: Annotated[int, Field(ge=1)] | None = None
    """Registered cameras; None: as many as there may be."""


def _from_json(given: object) -> object:
    """What an environment variable of a list holds: pydantic-settings decodes those of settings, not of their parts."""
    if isinstance(given, str):
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError('Input should be JSON, as ["one", "two"]') from error
    return given


_Words = Annotated[tuple[str, ...], BeforeValidator(_from_json)]


@dataclass(frozen=True, slots=True)
class OidcTerms:
    """Whom an issuer of OpenID Connect lets into the dashboard, and what for."""

    issuer: str | None = None
    """Its URL, as its tokens name it; None: sign-in is by key alone."""
    client_id: str = ""
    client_secret: SecretStr | None = None
    """None: a public client, which PKCE alone protects."""
    name: str = "single sign-on"
    """What the sign-in page calls it."""
    public_url: str | None = None
    """Where browsers reach this service, as https://host; as the request says where it is empty. The issuer is to send them back to
    /sign-in/issuer/back there."""
    extra_scopes: _Words = ()
    """Asked for beside `openid` and `email`, as an issuer may want for groups."""
    allowed_domains: _Words = ()
    """Of verified e-mails; `*` is whoever the issuer knows."""
    allowed_groups: _Words = ()
    groups_claim: str = "groups"
    tenant: str = DEFAULT_TENANT
    """Of whoever signs in, unless `tenant_claim` says it."""
    tenant_claim: str | None = None
    default_scopes: Annotated[tuple[Scope, ...], BeforeValidator(_from_json)] = ("analyses:read",)
    """Of whoever signs in, unless `scopes_claim` names some."""
    scopes_claim: str | None = None


@dataclass(frozen=True, slots=True)
class ReviewTerms:
    """How people review what was judged."""

    verdicts: Annotated[tuple[VerdictName, ...], BeforeValidator(_from_json)] = ("manipulated", "inconclusive")
    """What waits in the queue; all else can be reviewed too, by opening it."""
    lease_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    """How long an analysis stays locked for whoever has it open and says nothing; a page says so every minute."""
    second_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of all analyses, those that a second reviewer decides too, without seeing what the first one said."""


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "undercurrent"


def _default_replica() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "replica"


class Settings(BaseSettings):
    """What an operator may choose. A nested field is reached with `__`: `UNDERCURRENT_LIMITS__MAX_PIXELS`."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERCURRENT_", env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on; on any but loopback, every request needs a key.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names a request may ask for; empty: loopback names while on loopback.")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        LOOPBACK, description="Networks of proxies that are believed what they say of a client: that it came by TLS, and from where."
    )
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
    store_public_url: str | None = Field(
        None, description="Endpoint of the store as clients reach it, for uploads straight into it; the service's own when empty."
    )
    max_connections: int | None = Field(
        None, ge=8, description="Connections at once; never more than a third of the files that the process may open, 4,096 when empty."
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
    signing_key: Path | None = Field(
        None,
        description="PEM file with the Ed25519 key that signs evidence packs; one in the database, made at the first start, when empty.",
    )
    traces_endpoint: str | None = Field(None, description="OTLP collector (`http://host:4318`) that traces are sent to; empty: none.")
    camera_networks: tuple[Network, ...] = Field(
        ("public",),
        description="Where URLs may point, of cameras, media and webhooks: networks, and `public` for every address of the internet.",
    )
    limits: Limits = Field(default_factory=Limits, description="What one untrusted file may ask of this machine.")
    keys: KeyTerms = Field(default_factory=KeyTerms, description="What one key may ask of this service.")
    tenants: TenantTerms = Field(default_factory=TenantTerms, description="What one tenant may have of this service.")
    oidc: OidcTerms = Field(default_factory=OidcTerms, description="Whom an issuer of OpenID Connect lets into the dashboard.")
    streams: StreamTerms = Field(default_factory=StreamTerms, description="What live streams get of this machine.")
    feeds: FeedTerms = Field(default_factory=FeedTerms, description="What the cameras that the service watches by itself may take.")
    reviews: ReviewTerms = Field(default_factory=ReviewTerms, description="How people review what was judged.")

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
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "UNDERCURRENT_" + "__".join(str(part).upper() for part in first["loc"])
        # Of what has a secret among its parts nothing is repeated: its name may be misspelt, too.
        got = "something else" if first["loc"][:1] == ("oidc",) else repr(first["input"])
        raise SettingsError(f"{name}: {first['msg']}.", expected="a valid setting", got=got) from error
    except NotJson as error:
        # For values of several parts; it names the field in quotes.
        name = "UNDERCURRENT_" + str(error).split('"')[1].upper()
        raise SettingsError(f"{name} cannot be read.", expected='JSON, as ["one", "two"] for a list', got=str(error.__cause__)) from error
    _check_oidc(settings.oidc)
    return settings


def _check_oidc(terms: OidcTerms) -> None:
    """What hangs together; not in the dataclass, whose complaint would repeat the secret."""
    if terms.issuer is None:
        return
    wanted: str | None = None
    if not _is_safe_url(terms.issuer):
        wanted, got = "UNDERCURRENT_OIDC__ISSUER as https://...; http:// is for this machine alone", terms.issuer
    elif not terms.client_id:
        wanted, got = "UNDERCURRENT_OIDC__CLIENT_ID beside an issuer", "none"
    elif not terms.allowed_domains and not terms.allowed_groups:
        wanted, got = 'UNDERCURRENT_OIDC__ALLOWED_DOMAINS or __ALLOWED_GROUPS; ["*"] lets in whoever the issuer knows', "neither"
    elif terms.public_url is not None and urlsplit(terms.public_url).scheme not in ("http", "https"):
        wanted, got = "UNDERCURRENT_OIDC__PUBLIC_URL as https://host", terms.public_url
    if wanted is not None:
        raise SettingsError("Nobody can sign in through the issuer.", expected=wanted, got=got)


def _is_safe_url(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
    )
