"""What is unsafe in a deployment: its settings and what was looked up about it come in, findings go out, each with what to do. Pure.

Asked by `doctor.py` and `system.py`. Only what can be known is said: whether a proxy with TLS stands in front cannot, so that is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urlsplit

from service.boundary import LOOPBACK_NAMES
from service.connection import database_url
from service.deployment_facts import Facts
from service.settings import LOOPBACK, MIB, Settings
from service.url_policy import AZURE_HOST

Severity = Literal["unsafe", "warning", "info"]
METADATA: Final = (
    *map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")),
    AZURE_HOST,
)
"""Where clouds tell a machine its credentials."""
LINK_LOCAL: Final = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
EVERYWHERE: Final = 3
"""Bits of a prefix that short that it is no network of anybody's."""
VERIFIED: Final = ("verify-ca", "verify-full")
LITTLE_BYTES: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about this deployment."""

    severity: Severity
    code: str
    says: str
    do: str


def findings(settings: Settings, facts: Facts) -> list[Finding]:
    """All there are, the gravest first."""
    found = [*_doors(settings), *_ways_out(settings), *_wires(settings, facts), *_machine(settings, facts), *_decoding(settings, facts)]
    order: tuple[Severity, ...] = ("unsafe", "warning", "info")
    return sorted(found, key=lambda one: order.index(one.severity))


def _doors(settings: Settings) -> Iterator[Finding]:
    for network in settings.trusted_proxies:
        if network.prefixlen <= EVERYWHERE:
            yield Finding(
                "warning",
                "anybody-is-a-proxy",
                f"Whoever connects from {network} is believed what it says of TLS and of addresses: that is everywhere.",
                "narrow UNDERCURRENT_TRUSTED_PROXIES to the proxies themselves",
            )
    if not settings.is_loopback:
        if proxies := [network for network in settings.trusted_proxies if not network.is_loopback]:
            yield Finding(
                "info",
                "tls-is-the-proxys",
                f"It listens on {settings.host} and speaks no TLS: keys and faces travel in the clear unless the proxy that is trusted "
                f"({', '.join(map(str, proxies))}) speaks it.",
                "make sure that it does, and let nobody else reach the port",
            )
        else:
            yield Finding(
                "warning",
                "no-tls",
                f"It listens on {settings.host}, speaks no TLS and trusts no proxy elsewhere: keys and faces travel in the clear, or a "
                "proxy with TLS is not believed, and browsers may send their session in the clear too.",
                "put a proxy with TLS in front, name its network in UNDERCURRENT_TRUSTED_PROXIES, and let nobody else reach the port",
            )
        if not settings.allowed_hosts:
            yield Finding(
                "warning",
                "any-host",
                "It answers for any host name that a request makes up.",
                "name its own in UNDERCURRENT_ALLOWED_HOSTS, as a JSON list",
            )
    elif not settings.require_keys:
        if foreign := [host for host in settings.allowed_hosts if host not in LOOPBACK_NAMES]:
            yield Finding(
                "unsafe",
                "open-behind-a-proxy",
                f"Requests for {', '.join(foreign)} come through a proxy of this machine, and nobody needs a key.",
                "set UNDERCURRENT_REQUIRE_KEYS=true",
            )
        elif settings.database_url is not None:
            yield Finding(
                "warning",
                "open-replica",
                "It is one of several replicas and wants no keys: whoever reaches it through a load balancer may do everything.",
                "set UNDERCURRENT_REQUIRE_KEYS=true",
            )


def _ways_out(settings: Settings) -> Iterator[Finding]:
    for network in settings.camera_networks:
        if isinstance(network, str):
            continue
        if network.prefixlen <= EVERYWHERE:
            yield _open(network, "that is everywhere")
        elif inside := [address for address in METADATA if address in network]:
            yield _open(network, f"a cloud tells its machines their credentials at {inside[0]}")
        elif any(_meet(network, one) for one in LOOPBACK):
            yield _open(network, "the services of this machine listen there, this one too")
        elif any(_meet(network, one) for one in LINK_LOCAL):
            yield _open(network, "those addresses have no owner")
        else:
            yield Finding(
                "info",
                "inner-network",
                f"Whoever may analyse or watch a URL reaches every host and port in {network}.",
                "keep UNDERCURRENT_CAMERA_NETWORKS to the cameras themselves",
            )


def _open(network: IPv4Network | IPv6Network, why: str) -> Finding:
    return Finding("unsafe", "wide-camera-network", f"URLs may point into {network}: {why}.", "narrow UNDERCURRENT_CAMERA_NETWORKS")


def _meet(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def _wires(settings: Settings, facts: Facts) -> Iterator[Finding]:
    if settings.database_url is not None and (host := _database_host(settings)) is not None and facts.sslmode not in VERIFIED:
        if facts.sslmode == "require":
            yield Finding(
                "warning",
                "unverified-database",
                f"PostgreSQL on {host} is spoken to over TLS, and may be anybody.",
                "add sslmode=verify-full and sslrootcert to UNDERCURRENT_DATABASE_URL",
            )
        else:
            yield Finding(
                "unsafe",
                "database-in-the-clear",
                f"Its password and rows may travel to {host} in the clear (sslmode={facts.sslmode}).",
                "add sslmode=verify-full to UNDERCURRENT_DATABASE_URL",
            )
    store = facts.store_endpoint if settings.store_url is not None else None
    named = (("AWS_ENDPOINT_URL", store), ("UNDERCURRENT_STORE_PUBLIC_URL", settings.store_public_url))
    for name, url in named:
        if url is not None and (host := _in_the_clear(url)) is not None:
            yield Finding("unsafe", "store-in-the-clear", f"Media travels to {host} in the clear.", f"give {name} an https:// URL")
    if settings.store_url is not None and facts.store_allows_http and _in_the_clear(store or "") is None:
        yield Finding("info", "store-may-be-in-the-clear", "AWS_ALLOW_HTTP is set, and not needed.", "unset it")
    if settings.traces_endpoint is not None and (host := _in_the_clear(settings.traces_endpoint)) is not None:
        yield Finding(
            "warning",
            "traces-in-the-clear",
            f"Traces, with ids and paths, travel to {host} in the clear.",
            "give UNDERCURRENT_TRACES_ENDPOINT an https:// URL",
        )


def _database_host(settings: Settings) -> str | None:
    """Where PostgreSQL is, if that is not this machine."""
    url = database_url(settings)
    given = url.host or url.query.get("host")
    host = given if isinstance(given, str) else None
    return None if host is None or host.startswith("/") or _is_here(host) else host


def _in_the_clear(url: str) -> str | None:
    """The host that is asked without TLS, if it is not this machine."""
    parts = urlsplit(url)
    host = parts.hostname
    return host if parts.scheme == "http" and host is not None and not _is_here(host) else None


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _machine(settings: Settings, facts: Facts) -> Iterator[Finding]:
    directory = settings.data_dir
    if facts.data_dir_mode is not None and facts.data_dir_mode & 0o007:
        yield Finding(
            "unsafe",
            "open-data-directory",
            f"Every user of this machine can enter {directory}, which has rows and faces.",
            f"chmod 700 {directory}",
        )
    elif facts.data_dir_mode is not None and facts.data_dir_mode & 0o070:
        yield Finding(
            "warning", "shared-data-directory", f"A group can enter {directory}, which has rows and faces.", f"chmod 700 {directory}"
        )
    if facts.is_root:
        yield Finding(
            "warning",
            "root",
            "It runs as root: whoever takes it over has the machine.",
            "run it as a user of its own, who owns nothing but the data directory",
        )
    if facts.free_bytes is not None and facts.free_bytes < settings.min_free_bytes:
        yield Finding(
            "warning",
            "disk-full",
            f"{facts.free_bytes:,} bytes are free, so uploads are refused (UNDERCURRENT_MIN_FREE_BYTES).",
            "give it more room, or delete analyses",
        )
    elif facts.free_bytes is not None and facts.free_bytes < settings.min_free_bytes + LITTLE_BYTES:
        yield Finding(
            "info", "disk-nearly-full", f"{facts.free_bytes:,} bytes are free.", "give it more room, or set UNDERCURRENT_RETENTION_DAYS"
        )
    if settings.min_free_bytes == 0:
        yield Finding(
            "warning", "disk-may-fill", "Uploads may fill the disk to its last byte.", "leave UNDERCURRENT_MIN_FREE_BYTES at its default"
        )
    if settings.retention_days is None:
        yield Finding("info", "kept-for-ever", "Analyses, and the faces in them, are kept for ever.", "set UNDERCURRENT_RETENTION_DAYS")
    if settings.weights is not None:
        yield Finding(
            "info",
            "other-weights",
            f"It judges with {settings.weights}: what the model card promises is of other weights.",
            "make sure that they are yours; checkpoints hold tensors and no code",
        )
    if facts.endless_admin_keys is None:
        yield Finding("info", "keys-unseen", "The database could not be asked for keys.", "start the service once, or see why not")
    elif facts.endless_admin_keys:
        yield Finding(
            "warning",
            "endless-admin-key",
            f"Admin keys that never expire: {', '.join(facts.endless_admin_keys)}.",
            "make others with `undercurrent keys create NAME --scope admin --days 90`, then `undercurrent keys revoke ID`",
        )


def _decoding(settings: Settings, facts: Facts) -> Iterator[Finding]:
    if facts.decoding != "child":
        yield Finding(
            "warning" if settings.is_loopback else "unsafe",
            "no-decode-child",
            "Untrusted media is decoded in the service's own process: a bug of the decoder is one of the service."
            if facts.decoding == "no child"
            else "No decode child answers: media cannot be decoded.",
            "run it on Linux, which has memfd, pidfd and packet sockets",
        )
        return
    if kept := [word for word, gone in (("network", facts.network_gone), ("files", facts.files_gone)) if not gone]:
        yield Finding(
            "warning",
            "decode-child-keeps",
            f"The decode child keeps its {' and '.join(kept)}: a bug of the decoder could use it.",
            "allow user namespaces and Landlock, or keep the container from the network as docker/ does",
        )
