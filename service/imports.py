"""Media from a URL: an http(s) URL comes in, its bytes go out as they come, or the reason why not. Used by `admission.py`.

The host is looked up once, held to `url_policy.py`, and connected to at the address that was found, under its own name (TLS, Host). A
redirect begins again with all of that. FFmpeg never fetches: what is judged is a file of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from pipelines.errors import SourceUnreachable, UnsupportedMedia, UrlNotAllowed
from service import __version__
from service.intake import check_announced, paced
from service.problems import ImportFailed, ImportTooSlow
from service.settings import Settings
from service.storage import Storage
from service.url_policy import Target, UrlPolicy

CONNECT_S: Final = 5.0
MAX_REDIRECTS: Final = 3
WEB_PORTS: Final = (80, 443)
# What is counted and hashed is what the host keeps, and nothing is unpacked here.
HEADERS: Final = {
    "User-Agent": f"undercurrent/{__version__}",
    "Accept": "video/*, application/octet-stream, */*;q=0.5",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """Media that a host has begun to send."""

    shown: str
    """Its URL as it may be shown."""
    filename: str | None
    content_type: str
    """What the host calls it; told, and not believed."""
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def open_url(url: str, policy: UrlPolicy, storage: Storage, settings: Settings) -> AsyncIterator[Remote]:
    """Ask for `url`; its bytes can be read inside the context, which raises what becomes of the connection.

    Raises:
        UrlNotAllowed, UnsupportedMedia: it points, or leads, where this service does not go, or is no http(s) URL.
        SourceUnreachable: nobody answers there.
        ImportFailed, ImportTooSlow: the answer is no media, breaks off, or takes too long.
        UploadTooLarge, DiskFull: it will not fit, as it says itself.
    """
    timeout = httpx.Timeout(settings.upload_stall_s, connect=CONNECT_S)
    # SSL_CERT_FILE is honoured; proxies of the environment are not, since they would look the host up themselves.
    tls = await asyncio.to_thread(httpx.create_ssl_context)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(verify=tls, timeout=timeout, trust_env=False))
        target = await _admitted(url, policy)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await _ask(client, target, settings)
            stack.push_async_callback(answer.aclose)
            if not answer.has_redirect_location:
                break
            target = await _admitted(_next(answer, target), policy)
        else:
            raise ImportFailed(f"{target.shown} leads on and on.", expected=f"at most {MAX_REDIRECTS} redirects", got="more")
        _check(answer, target)
        if (announced := answer.headers.get("content-length", "")).isdecimal():
            check_announced(int(announced), storage, settings)
        name = unquote(urlsplit(target.url).path).rpartition("/")[2]
        kind = answer.headers.get("content-type", "")[:80]
        yield Remote(target.shown, name or None, kind or "nothing", paced(_bytes(answer, target), settings, ImportTooSlow))


async def _admitted(url: str, policy: UrlPolicy) -> Target:
    scheme = url.partition(":")[0]
    if scheme.lower() not in ("http", "https"):
        raise UnsupportedMedia("Media is fetched from the web only.", expected="an http(s) URL", got=scheme[:20] or "no scheme")
    target = await asyncio.to_thread(policy.admit, url)
    if target.port not in WEB_PORTS and not all(policy.names(address) for address in target.addresses):
        raise UrlNotAllowed(
            f"{target.shown} is not on a port of the web.",
            expected=f"port {' or '.join(map(str, WEB_PORTS))}, or a network that is named in UNDERCURRENT_CAMERA_NETWORKS",
            got=f"port {target.port}",
        )
    return target


async def _ask(client: httpx.AsyncClient, target: Target, settings: Settings) -> httpx.Response:
    """The head of the answer, from the first address that takes the connection."""
    try:
        told = httpx.URL(target.url)
    except httpx.InvalidURL as error:
        raise UrlNotAllowed(f"{target.shown} cannot be asked for.", expected="a URL of the web", got=str(error)[:200]) from error
    for address in target.addresses:
        request = client.build_request(
            "GET",
            told.copy_with(host=str(address)),
            headers={**HEADERS, "Host": told.netloc.decode("ascii")},
            extensions={"sni_hostname": target.host},
        )
        try:
            async with asyncio.timeout(settings.upload_stall_s):
                return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            said = "no connection in time" if isinstance(error, httpx.ConnectTimeout) else str(error)[:200]
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _too_slow(target, settings) from error
        except httpx.TransportError as error:
            raise ImportFailed(f"{target.shown} does not answer as the web does.", expected="HTTP", got=type(error).__name__) from error
    raise SourceUnreachable(f"{target.shown} cannot be reached.", expected="a host that answers", got=said)


def _next(answer: httpx.Response, target: Target) -> str:
    """Where a redirect leads; never from a connection that proves its host to one that does not."""
    try:
        url = urljoin(target.url, answer.headers["location"])
    except ValueError as error:
        raise ImportFailed(f"{target.shown} leads nowhere.", expected="a Location", got=str(error)[:80]) from error
    if target.scheme == "https" and not url.lower().startswith("https:"):
        raise UrlNotAllowed(f"{target.shown} leads to where nobody proves who they are.", expected="https", got=url.partition(":")[0][:20])
    return url


def _check(answer: httpx.Response, target: Target) -> None:
    if answer.status_code != HTTPStatus.OK:
        phrase = answer.reason_phrase[:80]
        raise ImportFailed(f"{target.shown} was refused by its host.", expected="200 OK", got=f"{answer.status_code} {phrase}".strip())
    if (coding := answer.headers.get("content-encoding", "identity").lower()) != "identity":
        raise ImportFailed(f"{target.shown} comes packed, unasked.", expected="media as it is", got=f"Content-Encoding: {coding[:40]}")


async def _bytes(answer: httpx.Response, target: Target) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.TimeoutException as error:
        raise ImportTooSlow(f"{target.shown} fell silent.", expected="more bytes", got="none for too long") from error
    except httpx.TransportError as error:
        raise ImportFailed(f"{target.shown} broke off.", expected="all of the announced bytes", got=str(error)[:200] or "an end") from error


def _too_slow(target: Target, settings: Settings) -> ImportTooSlow:
    return ImportTooSlow(f"{target.shown} does not answer.", expected=f"an answer within {settings.upload_stall_s:g} s", got="none")
