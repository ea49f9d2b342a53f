"""Media from a URL: an http(s) URL comes in, its bytes go out as they come, or the reason why not. Used by `admission.py`.

Asked for through `web_client.py`, with which each redirect begins again. FFmpeg never fetches: what is judged is a file of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from pipelines.errors import UrlNotAllowed
from service.intake import check_announced, paced
from service.problems import ImportFailed, ImportTooSlow
from service.settings import Settings
from service.storage import Storage
from service.url_policy import Target, UrlPolicy
from service.web_client import admitted, ask, trusted, web_client

MAX_REDIRECTS: Final = 3
HEADERS: Final = {"Accept": "video/*, application/octet-stream, */*;q=0.5"}


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
    tls = await trusted()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(web_client(tls, settings.upload_stall_s))
        target = await admitted(url, policy)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await _ask(client, target, settings)
            stack.push_async_callback(answer.aclose)
            if not answer.has_redirect_location:
                break
            target = await admitted(_next(answer, target), policy)
        else:
            raise ImportFailed(f"{target.shown} leads on and on.", expected=f"at most {MAX_REDIRECTS} redirects", got="more")
        _check(answer, target)
        if (announced := answer.headers.get("content-length", "")).isdecimal():
            check_announced(int(announced), storage, settings)
        name = unquote(urlsplit(target.url).path).rpartition("/")[2]
        kind = answer.headers.get("content-type", "")[:80]
        yield Remote(target.shown, name or None, kind or "nothing", paced(_bytes(answer, target), settings, ImportTooSlow))


async def _ask(client: httpx.AsyncClient, target: Target, settings: Settings) -> httpx.Response:
    try:
        return await ask(client, "GET", target, HEADERS, settings.upload_stall_s)
    except TimeoutError as error:
        raise ImportTooSlow(
            f"{target.shown} does not answer.", expected=f"an answer within {settings.upload_stall_s:g} s", got="none"
        ) from error
    except httpx.TransportError as error:
        raise ImportFailed(f"{target.shown} does not answer as the web does.", expected="HTTP", got=type(error).__name__) from error


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
