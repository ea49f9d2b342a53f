"""The way out to the web: a URL comes in, the answer of its host goes out. Used by `imports.py` and `webhook_attempt.py`.

The host is looked up once, held to `url_policy.py`, and connected to at the address that was found, under its own name (TLS, Host). A
redirect is an answer like any other: whoever follows it begins again here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from pipelines.errors import SourceUnreachable, UnsupportedMedia, UrlNotAllowed
from service import __version__
from service.url_policy import Target, UrlPolicy

CONNECT_S: Final = 5.0
WEB_PORTS: Final = (80, 443)
# What comes is counted as it is kept, and nothing is unpacked here.
HEADERS: Final = {"User-Agent": f"undercurrent/{__version__}", "Accept-Encoding": "identity"}


async def trusted() -> ssl.SSLContext:
    """Whose certificates are believed; SSL_CERT_FILE is honoured. It takes a thread some 30 ms to read them."""
    return await asyncio.to_thread(httpx.create_ssl_context)


def web_client(tls: ssl.SSLContext, silence_s: float) -> httpx.AsyncClient:
    """A client for `ask`.

    Proxies of the environment are not honoured, since they would look the host up themselves. No connection is used twice: the pool knows
    them by their address, and two hosts may share one.
    """
    return httpx.AsyncClient(
        verify=tls,
        timeout=httpx.Timeout(silence_s, connect=CONNECT_S),
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


async def admitted(url: str, policy: UrlPolicy) -> Target:
    """Look at `url`, and look its host up.

    Raises:
        UnsupportedMedia: it is no http(s) URL.
        UrlNotAllowed: it is malformed, or its host or its port is where this service may not go.
        SourceUnreachable: its host is not known, or nobody said so in time.
    """
    scheme = url.partition(":")[0]
    if scheme.lower() not in ("http", "https"):
        raise UnsupportedMedia("Only the web is asked.", expected="an http(s) URL", got=scheme[:20] or "no scheme")
    target = await asyncio.to_thread(policy.admit, url)
    if target.port not in WEB_PORTS and not all(policy.names(address) for address in target.addresses):
        raise UrlNotAllowed(
            f"{target.shown} is not on a port of the web.",
            expected=f"port {' or '.join(map(str, WEB_PORTS))}, or a network that is named in UNDERCURRENT_CAMERA_NETWORKS",
            got=f"port {target.port}",
        )
    return target


async def ask(
    client: httpx.AsyncClient, method: str, target: Target, headers: Mapping[str, str], patience_s: float, content: bytes | None = None
) -> httpx.Response:
    """The head of the answer, from the first address that takes the connection; to be closed by whoever asked.

    Raises:
        UrlNotAllowed: no request can name such a URL.
        SourceUnreachable: nobody takes the connection, or not as whom its certificate must name.
        TimeoutError: somebody does, and then says nothing for `patience_s`.
        httpx.TransportError: somebody does, and does not answer as the web does.
    """
    try:
        told = httpx.URL(target.url)
    except httpx.InvalidURL as error:
        raise UrlNotAllowed(f"{target.shown} cannot be asked for.", expected="a URL of the web", got=str(error)[:200]) from error
    for address in target.addresses:
        request = client.build_request(
            method,
            told.copy_with(host=str(address)),
            headers={**HEADERS, **headers, "Host": told.netloc.decode("ascii")},
            content=content,
            extensions={"sni_hostname": target.host},
        )
        try:
            async with asyncio.timeout(patience_s):
                return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            said = "no connection in time" if isinstance(error, httpx.ConnectTimeout) else str(error)[:200]
        except httpx.TimeoutException as error:
            raise TimeoutError from error
    raise SourceUnreachable(f"{target.shown} cannot be reached.", expected="a host that answers", got=said)
