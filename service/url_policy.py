"""Where a URL may point: a URL comes in, a Target whose addresses were looked up once and found allowed goes out, or a refusal.

Asked by `media_sandbox.py` for every URL, before anything connects; `net_gate.py` then holds the decode child to what came out.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urlsplit

from pipelines.errors import SourceUnreachable, UnsupportedMedia, UrlNotAllowed

Address = IPv4Address | IPv6Address
Network = Literal["public"] | IPv4Network | IPv6Network

PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
ANYWHERE: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""For a command line, whose user may go wherever the machine may."""
NAT64: Final = ip_network("64:ff9b::/96")
AZURE_HOST: Final = ip_address("168.63.129.16")
"""Public by its number, and the host of every machine in Azure, which tells of it and gives it its settings
(learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16). Registries of special addresses do not have it."""
MAX_URL: Final = 4096
RESOLVE_S: Final = 4.0
NO_URL_HAS: Final = re.compile(r"[^!-~]|[\\\\<>\"`{}|^]")
# Recorders of several makes take their password in the path or in the query.
SECRETS: Final = re.compile(
    r"(?i)((?:user(?:name)?|login|pass(?:word|wd|phrase)?|pwd|token|secret|key|sig(?:nature)?|auth)[=:_])[^&/?#;\s]+"
)
KEYS: Final = re.compile(r"(?:uc_[0-9a-z]+_|whsec_)[\w+/=-]+")
"""What opens this service (`key_store.py`), and what signs for a webhook."""
URLS: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be opened."""

    url: str
    """What the decoder is to open, credentials and all."""
    shown: str
    """What may be said of it."""
    scheme: str
    host: str
    port: int
    addresses: tuple[Address, ...]
    """Where `host` is, as it was looked up once."""

    def __repr__(self) -> str:
        return f"Target({self.shown!r})"


def shown(url: str) -> str:
    """A URL without its credentials, its query, and what looks like a secret in its path."""
    scheme, _, rest = url.partition("://")
    netloc, path = re.match(r"([^/?#]*)([^?#]*)", rest).groups()  # type: ignore[union-attr]  # it matches anything
    # A password with a bare slash in it: what follows is no path, and what comes before is no host.
    if "@" in rest[len(netloc) :]:
        return f"{scheme}://..."
    return f"{scheme}://{netloc.rpartition('@')[2]}" + SECRETS.sub(r"\1***", path)


def without_keys(text: str) -> str:
    """`text` without any key in it; for whatever repeats what a client said."""
    return KEYS.sub("(a key)", text)


def redacted(text: str) -> str:
    """`text` without keys, and with every URL in it as `shown` shows it; for logs."""
    return URLS.sub(lambda url: shown(url[0]), without_keys(text))


class UrlPolicy:
    """Says which URLs may be opened.

    Args:
        networks: where they may point: networks, and `public` for every address that the whole internet can reach.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._public = "public" in networks
        self._networks = [network for network in networks if not isinstance(network, str)]

    def admit(self, url: str) -> Target:
        """Look at `url`, and look its host up.

        Raises:
            UnsupportedMedia: no scheme that is read here.
            UrlNotAllowed: it is malformed, or its host is where this service may not go.
            SourceUnreachable: its host is not known, or nobody said so in time.
        """
        if len(url) > MAX_URL or NO_URL_HAS.search(url):
            raise UrlNotAllowed(
                "The URL cannot be read.", expected=f"at most {MAX_URL} of the characters that URLs have", got=f"{len(url)} characters"
            )
        scheme = url.partition(":")[0].lower()
        if scheme not in PORTS:
            raise UnsupportedMedia(f"{scheme[:20]}:// is not read here.", expected="an rtsp(s) or http(s) URL", got=f"{scheme[:20]}://")
        said = shown(url)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or "%" in host or port == 0:
            raise UrlNotAllowed(f"{said} names no host.", expected="scheme://host:port/path", got="no host, or no port")
        port = port or PORTS[scheme]
        addresses = self.resolve(host, port)
        credentials = parts.netloc.rpartition("@")[0]
        # FFmpeg connects to a bare rtsp:// itself, so it is told where; what has a certificate or a Host header keeps its name.
        where = _bracketed(str(addresses[0])) if scheme == "rtsp" else _bracketed(host)
        opened = f"{scheme}://{credentials + '@' if credentials else ''}{where}:{port}{parts.path}{'?' if parts.query else ''}{parts.query}"
        return Target(opened, said, scheme, host, port, addresses)

    def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses of `host` that are allowed, best first.

        Raises:
            UrlNotAllowed: none is.
            SourceUnreachable: it has none, or nobody said so in time.
        """
        found = _look_up(host, port)
        allowed = tuple(address for address in found if self.allows(address))
        if not allowed:
            raise UrlNotAllowed(
                f"{host} is not where this service may go.",
                expected="an address in " + " or ".join([*["the public internet"] * self._public, *map(str, self._networks)]),
                got=", ".join(map(str, found)),
            )
        return allowed

    def allows(self, address: Address) -> bool:
        """Whether a connection to `address`, and to whatever it is a cover for, is allowed."""
        return all(self._allows(one) for one in _faces(address))

    def names(self, address: Address) -> bool:
        """Whether `address`, and whatever it is a cover for, is in a network that somebody named."""
        return all(any(one in network for network in self._networks) for one in _faces(address))

    def _allows(self, address: Address) -> bool:
        if any(address in network for network in self._networks):
            return True
        odd = address.is_private or address.is_multicast or address.is_reserved or address.is_link_local or address.is_loopback
        return self._public and address.is_global and not odd and address != AZURE_HOST


def _faces(address: Address) -> list[Address]:
    """An address, and the IPv4 addresses that a router may make of it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    return [address, *(address.teredo or ())]


def _look_up(host: str, port: int) -> list[Address]:
    """Ask the resolver, which cannot be interrupted, for no longer than it is worth."""
    answer: list[Address] = []
    wrong: list[str] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            wrong.append(error.strerror or "no answer" if isinstance(error, OSError) else "no name that can be asked for")
            return
        answer.extend(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(RESOLVE_S)
    if not answer:
        got = wrong[0] if wrong else f"no answer within {RESOLVE_S:g} s"
        raise SourceUnreachable(f"{host} is not known.", expected="a host with an address", got=got)
    return answer


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
