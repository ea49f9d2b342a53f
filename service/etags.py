"""ETags: what is answered, and what a client says that it has, come in; an answer, a 304, or a refusal of a change goes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fastapi import Response

from service.problems import ServiceError


class IfMatchNeeded(ServiceError):
    """So that nobody overwrites what they have not read."""

    slug = "if-match-needed"
    title = "A change names what it changes"
    status = 428


def tagged(body: bytes, media_type: str, if_none_match: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """`body` with its ETag, or 304 when the client has it already."""
    tag = _tag(body)
    told = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    if knows(if_none_match, tag):
        return Response(status_code=304, headers=told)
    return Response(body, media_type=media_type, headers=told)


def knows(known: str | None, tag: str) -> bool:
    """Whether a client that sends this If-None-Match, or If-Match, has what `tag` names."""
    tags = {part.strip().removeprefix("W/") for part in (known or "").split(",")}
    return tag in tags or "*" in tags


def must_have_read(if_match: str | None, body: bytes, path: str, version: int, changed: type[ServiceError]) -> None:
    """Let a change through if its client has read what it changes: `body`, of `version`, as GET of `path` gives it.

    Raises:
        IfMatchNeeded: the client does not say.
        ServiceError: `changed`, when it has read something else.
    """
    if if_match is None:
        raise IfMatchNeeded("Say which version you have read.", expected=f"If-Match: the ETag of GET {path}", got="none")
    tag = _tag(body)
    if not knows(if_match, tag):
        raise changed("Read it again before you change it.", expected=f"{tag}, of version {version}", got=if_match[:80])


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
