"""The door for bytes: a request's body comes in, its media goes out chunk by chunk, and what was said beside it. Asked by `admission.py`.

Nothing is spooled: a multipart body is cut by a streaming parser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final, Protocol

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.intake import check_announced, paced
from service.problems import MalformedUpload, UnsupportedContentType, UploadTooSlow
from service.settings import Settings
from service.storage import Storage

MAX_FIELD_BYTES: Final = 4096
MAX_OVERHEAD_BYTES: Final = 64 * 1024
"""What a multipart body may be larger than its file: boundaries, part headers and fields."""
MAX_JSON_BYTES: Final = 16 * 1024
FIELDS: Final = ("external_id",)


class Body(Protocol):
    """Media on its way in; what was said beside it is known when it has all come."""

    filename: str | None
    fields: dict[str, str]

    def __aiter__(self) -> AsyncIterator[bytes]: ...


def open_body(request: Request, storage: Storage, settings: Settings) -> Body:
    """The media that `request` brings, to be read once; reading raises what is wrong with it.

    Raises:
        UnsupportedContentType: the body is neither a form nor media.
        UploadTooLarge, DiskFull: it will not fit, as it says itself.
        MalformedUpload: the form is cut, has no `file`, two of them, or unknown fields.
        UploadTooSlow, ClientDisconnect: the client stopped sending.
    """
    content_type, options = _content_type(request)
    is_form = content_type == "multipart/form-data"
    if not is_form and not content_type.startswith("video/") and content_type != "application/octet-stream":
        raise UnsupportedContentType(
            "The body is neither a form nor media.",
            expected="multipart/form-data, video/*, application/octet-stream or application/json",
            got=content_type or "no content type",
        )
    if announced := announced_bytes(request):
        check_announced(announced, storage, settings)
    chunks = paced(request.stream(), settings, UploadTooSlow)
    return _Form(options.get(b"boundary", b""), chunks) if is_form else _Raw(chunks)


def announced_bytes(request: Request) -> int:
    """How large the media is at least, as the request says itself; 0 where it does not."""
    content_type, _ = _content_type(request)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or content_type == "application/json":
        return 0
    return max(0, int(length) - (MAX_OVERHEAD_BYTES if content_type == "multipart/form-data" else 0))


def is_json(request: Request) -> bool:
    """Whether the body says where media is, rather than being it."""
    return _content_type(request)[0] == "application/json"


async def read_json(request: Request, settings: Settings) -> bytes:
    """A small JSON body.

    Raises:
        MalformedUpload: it is a large one.
        UploadTooSlow, ClientDisconnect: the client stopped sending.
    """
    body = bytearray()
    async for chunk in paced(request.stream(), settings, UploadTooSlow):
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise MalformedUpload("The JSON is too large.", expected=f"at most {MAX_JSON_BYTES:,} bytes", got="more")
    return bytes(body)


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    kind, options = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1").lower(), options


def basename(name: str | None) -> str | None:
    """The last part of a client's file name without control characters, at most 255 long; shown, never used as a path."""
    if name is None:
        return None
    last = PureWindowsPath(PurePosixPath(name).name).name
    return "".join(character for character in last if character.isprintable())[:255] or None


class _Raw:
    """The body is the media."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.filename: str | None = None
        self.fields: dict[str, str] = {}

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class _Form:
    """Cuts a multipart body: the part `file` is the media, the few known fields are kept."""

    def __init__(self, boundary: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._media = bytearray()
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name: str | None = None
        self._field = bytearray()
        self._has_file = False
        self._ended = False
        self._around = 0
        self.filename: str | None = None
        self.fields: dict[str, str] = {}
        if not boundary:
            raise _malformed("a boundary in Content-Type", "none")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise _malformed("a multipart boundary", str(error)) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._feed(chunk)
            if self._media:
                media, self._media = bytes(self._media), bytearray()
                yield media
        if not self._ended:
            raise _malformed("a closing boundary", "the end of the body")
        if not self._has_file:
            raise _malformed("one part named `file` with a file name", f"the fields {sorted(self.fields)}")

    def _feed(self, chunk: bytes) -> None:
        if self._around > MAX_OVERHEAD_BYTES:
            raise _malformed(f"at most {MAX_OVERHEAD_BYTES:,} bytes around the file", "more")
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed("a well-formed multipart body", str(error)) from error
        self._around += len(chunk) - len(self._media)

    def _begin(self) -> None:
        self._disposition, self._name = b"", None
        self._field.clear()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self._has_file:
                raise _malformed("one part named `file`", "two")
            self._has_file = True
            self.filename = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
        elif self._name not in FIELDS or self._name in self.fields:
            raise _malformed(f"the parts `file` and {', '.join(f'`{name}`' for name in FIELDS)}, each once", f"`{self._name[:80]}`")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._media += data[start:end]
            return
        self._field += data[start:end]
        if len(self._field) > MAX_FIELD_BYTES:
            raise _malformed(f"a field of at most {MAX_FIELD_BYTES} bytes", "a longer one")

    def _end(self) -> None:
        if self._name is not None and self._name != "file":
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _finish(self) -> None:
        self._ended = True


def _malformed(expected: str, got: str) -> MalformedUpload:
    return MalformedUpload("The form cannot be read as one uploaded file.", expected=expected, got=got)
