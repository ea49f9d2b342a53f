"""The door for bytes: a request's body comes in, a counted and hashed file in the storage goes out. Used by `POST /v1/analyses`.

The body is written as it comes, never spooled: a multipart body is cut by a streaming parser, and no more than BUFFER_BYTES wait in memory.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.problems import DiskFull, MalformedUpload, UnsupportedContentType, UploadTooLarge, UrlImportNotSupported
from service.settings import MIB, Settings
from service.storage import Storage

BUFFER_BYTES = MIB
MAX_FIELD_BYTES = 4096
MAX_OVERHEAD_BYTES = 64 * 1024
"""What a multipart body may be larger than its file: boundaries, part headers and fields."""
FIELDS = ("external_id",)


@dataclass(frozen=True, slots=True)
class Upload:
    """One stored file and what was said about it."""

    path: Path
    size_bytes: int
    sha256: str
    filename: str | None
    fields: dict[str, str]


class _Sink:
    """Counts, hashes and writes; refuses at the limit. A context manager that always closes its file."""

    def __init__(self, path: Path, storage: Storage, settings: Settings) -> None:
        self._path = path
        self._file = path.open("xb")
        self._storage = storage
        self._settings = settings
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._settings.max_upload_bytes:
            raise too_large(self._settings, f"more than {self.size:,} bytes")
        self._buffer += data

    async def flush(self, at_least: int = 1) -> None:
        if len(self._buffer) >= at_least:
            data, self._buffer = bytes(self._buffer), bytearray()
            await asyncio.to_thread(self._write, data)

    def finish(self, filename: str | None, fields: dict[str, str]) -> Upload:
        return Upload(self._path, self.size, self._digest.hexdigest(), filename, fields)

    def _write(self, data: bytes) -> None:
        if self._storage.free_bytes < self._settings.min_free_bytes + len(data):
            raise disk_full(self._settings, self._storage.free_bytes)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(self._settings, 0) from error
            raise
        self._digest.update(data)


async def receive(request: Request, path: Path, storage: Storage, settings: Settings) -> Upload:
    """Store the media of `request` at `path`.

    Raises:
        UnsupportedContentType, UrlImportNotSupported: the body is neither a form nor media.
        MalformedUpload: the form is cut, has no `file`, two of them, or unknown fields.
        UploadTooLarge, DiskFull: the bytes do not fit, whatever Content-Length said.
        ClientDisconnect: the client went away.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    content_type = kind.decode("latin-1").lower()
    _check_announced_size(request, settings, storage, is_form=content_type == "multipart/form-data")
    with _Sink(path, storage, settings) as sink:
        if content_type == "multipart/form-data":
            form = _Form(options.get(b"boundary", b""), sink)
            async for chunk in _chunks(request):
                form.feed(chunk)
                await sink.flush(BUFFER_BYTES)
            await sink.flush()
            return form.finish()
        if content_type.startswith("video/") or content_type == "application/octet-stream":
            async for chunk in _chunks(request):
                sink.take(chunk)
                await sink.flush(BUFFER_BYTES)
            await sink.flush()
            return sink.finish(None, {})
    if content_type == "application/json":
        raise UrlImportNotSupported(
            "This version takes files only; importing media from a URL comes later.",
            expected="a multipart form with `file`, or the media as the body",
            got="application/json",
        )
    raise UnsupportedContentType(
        "The body is neither a form nor media.",
        expected="multipart/form-data, video/* or application/octet-stream",
        got=content_type or "no content type",
    )


def basename(name: str | None) -> str | None:
    """The last part of a client's file name without control characters, at most 255 long; shown, never used as a path."""
    if name is None:
        return None
    last = PureWindowsPath(PurePosixPath(name).name).name
    return "".join(character for character in last if character.isprintable())[:255] or None


def too_large(settings: Settings, got: str) -> UploadTooLarge:
    """The refusal of an upload over the limit."""
    return UploadTooLarge("The media is larger than this service takes.", expected=f"at most {settings.max_upload_bytes:,} bytes", got=got)


def disk_full(settings: Settings, free: int) -> DiskFull:
    """The refusal of an upload that the disk has no room for."""
    return DiskFull(
        "The disk is nearly full; delete analyses or give the service more room.",
        expected=f"{settings.min_free_bytes:,} bytes left free after the upload",
        got=f"{free:,} bytes free",
    )


def _check_announced_size(request: Request, settings: Settings, storage: Storage, *, is_form: bool) -> None:
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return
    size = int(announced)
    if size > settings.max_upload_bytes + (MAX_OVERHEAD_BYTES if is_form else 0):
        raise too_large(settings, f"{size:,} bytes announced")
    if storage.free_bytes < settings.min_free_bytes + size:
        raise disk_full(settings, storage.free_bytes)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


class _Form:
    """Cuts a multipart body: the part `file` goes to the sink, the few known fields are kept."""

    def __init__(self, boundary: bytes, sink: _Sink) -> None:
        self._sink = sink
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name: str | None = None
        self._field = bytearray()
        self._filename: str | None = None
        self._has_file = False
        self._ended = False
        self._fed = 0
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

    def feed(self, chunk: bytes) -> None:
        self._fed += len(chunk)
        if self._fed - self._sink.size > MAX_OVERHEAD_BYTES + len(chunk):
            raise _malformed(f"at most {MAX_OVERHEAD_BYTES:,} bytes around the file", "more")
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed("a well-formed multipart body", str(error)) from error

    def finish(self) -> Upload:
        if not self._ended:
            raise _malformed("a closing boundary", "the end of the body")
        if not self._has_file:
            raise _malformed("one part named `file` with a file name", f"the fields {sorted(self.fields)}")
        return self._sink.finish(self._filename, self.fields)

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
            self._filename = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
        elif self._name not in FIELDS or self._name in self.fields:
            raise _malformed(f"the parts `file` and {', '.join(f'`{name}`' for name in FIELDS)}, each once", f"`{self._name[:80]}`")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._sink.take(data[start:end])
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
