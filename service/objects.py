"""Objects: names and bytes come in, a directory or an S3 bucket keeps them, bytes go out. Made by `app.py`, used by `storage.py`.

Both are `obstore` stores, so what is written here is one path for both. Names are made by the service, never taken from users. The methods
of one name are for threads, except those that say `async`. What they kept outlives a power cut (`durability.py`). Whatever a store does not
do becomes StoreUnavailable or DiskFull here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from service.durability import sync
from service.problems import DiskFull, ServiceError, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

MIB: Final = 1024**2
PART_BYTES: Final = 8 * MIB
"""Of one part of a multipart upload: S3 takes 10,000 of them, and two are in memory."""
PIECE_BYTES: Final = 256 * 1024
S3_URL: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")
# A request lasts as long as the slowest reader of two gigabytes; what hangs is noticed by its silence.
CLIENT: Final[ClientConfig] = {"connect_timeout": "3s", "read_timeout": "30s", "timeout": "12h"}
RETRY: Final[RetryConfig] = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
TRIES: Final = 10
"""So often a directory is removed into which somebody writes meanwhile."""
NO_SPACE: Final = re.compile(r"\(os error (?:27|28|122)\)")
"""EFBIG (`ulimit -f`), ENOSPC, EDQUOT."""

log = structlog.get_logger()


class BadStoreUrl(ServiceError):
    """The setting names no store."""

    slug = "bad-store-url"
    title = "The object store's URL cannot be used"
    status = 500


class ObjectNotFound(ServiceError):
    """The store answers, and has no such object."""

    slug = "object-not-found"
    title = "The store has no such object"
    status = 404


class Objects:
    """One directory, or all names of a bucket below one prefix."""

    def __init__(self, store: ObjectStore, directory: Path | None = None, *, shared: bool = True, signer: S3Store | None = None) -> None:
        self._store = store
        self._directory = directory
        self._signer = signer
        self.is_own = not shared
        """Whether nobody else keeps objects here."""

    @classmethod
    def in_directory(cls, directory: Path, *, shared: bool = False) -> Self:
        """Objects as files below `directory`, which is made; `shared` if other processes keep theirs there."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(LocalStore(directory), directory, shared=shared)

    @classmethod
    def at_url(cls, url: str, area: str | None = None, *, public_endpoint: str | None = None) -> Self:
        """Objects below `url`, or below one area there; endpoint, region and credentials are the usual AWS variables.

        Args:
            url: s3://bucket or s3://bucket/prefix.
            public_endpoint: where clients reach the same store; where this service does if None.

        Raises:
            BadStoreUrl: it is something else, or one of the variables cannot be used.
        """
        if not S3_URL.fullmatch(url):
            raise BadStoreUrl("The store cannot be addressed.", expected="s3://bucket or s3://bucket/prefix", got=url.partition("?")[0])
        # obstore reads every AWS variable but this one, once it is given any option of its client.
        insecure = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
        client: ClientConfig = {**CLIENT, "allow_http": insecure}
        where = url if area is None else f"{url.rstrip('/')}/{area}"
        try:
            store = S3Store.from_url(where, client_options=client, retry_config=RETRY)
            if public_endpoint is None:
                return cls(store, signer=store)
            # The key is what `endpoint` is short for, which panics in obstore 0.12.
            config = cast("S3Config", {"aws_endpoint": public_endpoint})
            return cls(store, signer=S3Store.from_url(where, client_options=client, config=config))
        except BaseError as error:
            raise BadStoreUrl("The store cannot be used.", expected="AWS variables that make sense", got=_first_line(error)) from error

    def file(self, name: str) -> Path | None:
        """Where an object lies as a file of this machine; None when it does not."""
        return None if self._directory is None else self._directory / name

    async def write(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        """Keep what comes, whole or not at all; what `chunks` raises goes through, and leaves nothing.

        Raises:
            StoreUnavailable, DiskFull: the bytes cannot be kept.
        """
        with _told(name):
            await obstore.put_async(self._store, name, aiter(chunks), use_multipart=True, chunk_size=PART_BYTES, max_concurrency=2)
        await asyncio.to_thread(self._sync, name)

    def put(self, name: str, content: bytes) -> None:
        """Keep `content`, in place of what was there.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        self.put_all({name: content})

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """Keep several, one after the other, each in place of what was there.

        Raises:
            StoreUnavailable, DiskFull: they are not all kept.
        """
        for name, content in contents.items():
            with _told(name):
                obstore.put(self._store, name, content)
        self._sync(*contents)

    def put_file(self, name: str, file: Path) -> None:
        """Keep what a file of this machine holds, whole or not at all.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        with _told(name):
            obstore.put(self._store, name, file, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=2)
        self._sync(name)

    async def read(self, name: str) -> bytes:
        """The whole object.

        Raises:
            ObjectNotFound, StoreUnavailable: there is none, or it cannot be had now.
        """
        with _told(name):
            return bytes(await (await obstore.get_async(self._store, name)).bytes_async())

    async def read_range(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from `start` up to and not with `end`, in pieces.

        Raises:
            ObjectNotFound, StoreUnavailable: before the first piece, or where the rest cannot be had.
        """
        with _told(name):
            found = await obstore.get_async(self._store, name, options={"range": (start, end)})
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    def fetch(self, name: str) -> Iterator[bytes]:
        """The whole object in pieces, for a thread.

        Raises:
            ObjectNotFound, StoreUnavailable: it cannot be had, or not to its end.
        """
        with _told(name):
            for piece in obstore.get(self._store, name).stream(min_chunk_size=MIB):
                yield bytes(piece)

    async def copy(self, name: str, to: str) -> None:
        """Make another object of the same bytes, without bringing them here.

        Raises:
            ObjectNotFound, StoreUnavailable, DiskFull: there is none, or it cannot be kept.
        """
        with _told(name):
            await obstore.copy_async(self._store, name, to)
        await asyncio.to_thread(self._sync, to)

    def presigned_put(self, name: str, seconds: float) -> str | None:
        """A URL that anybody may PUT `name` at for that long; None where objects are files.

        Raises:
            StoreUnavailable: there are no credentials to sign with now.
        """
        if self._signer is None:
            return None
        with _told(name):
            return obstore.sign(self._signer, "PUT", name, timedelta(seconds=seconds))

    def groups(self, area: str | None = None) -> list[str]:
        """The first part of every name that has several, or of those in one area the part that follows it.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        with _told(area or "every name"):
            return [prefix.rpartition("/")[2] for prefix in obstore.list_with_delimiter(self._store, area)["common_prefixes"]]

    def names(self, group: str) -> Mapping[str, int]:
        """The names of one group, and the bytes of each.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        with _told(group):
            return {one["path"]: one["size"] for page in obstore.list(self._store, group) for one in page}

    def remove(self, *names: str) -> None:
        """Remove objects; nothing happens to those that are gone already.

        Raises:
            StoreUnavailable: they may be there still.
        """
        # A bucket forgets many at once, and does not mind what is gone; a directory minds.
        for some in [list(names)] if self._directory is None else [[name] for name in names]:
            with _told(some[0] if some else ""), suppress(FileNotFoundError):
                obstore.delete(self._store, some)

    def remove_group(self, group: str) -> None:
        """Remove a group with everything in it, half-written objects too; nothing happens when it is gone already.

        Raises:
            StoreUnavailable: some of it may be there still.
        """
        if self._directory is None:
            self.remove(*self.names(group))
        else:
            with _refused(directory := self._directory / group):
                _remove_tree(directory)

    def check(self) -> None:
        """Make sure that the store answers.

        Raises:
            StoreUnavailable: it does not, or the bucket or the directory is gone.
        """
        if self._directory is not None and not os.access(self._directory, os.W_OK):
            raise StoreUnavailable("The directory of media is gone.", expected="a directory that can be written", got="none")
        self.names("a-name-that-nothing-has")

    def _sync(self, *names: str) -> None:
        """A bucket has done it once it answers."""
        if self._directory is not None:
            with _refused(self._directory):
                sync(self._directory, names)


def _remove_tree(directory: Path) -> None:
    """Somebody may remove it too, or still write into it: then once more.

    Raises:
        OSError: it is there still.
    """
    for left in reversed(range(TRIES)):
        if not directory.is_dir():
            return
        try:
            shutil.rmtree(directory)
        except OSError as error:
            if not left or error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Make the disk's errors ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull("The disk is full; delete analyses or give the service more room.", expected="room", got="none") from error
        log.error("store_failed", object=str(path), error=str(error))
        raise StoreUnavailable(
            "The directory of media and evidence does not do what it is asked.",
            expected="a directory that can be written",
            got=errno.errorcode.get(error.errno or 0, type(error).__name__),
        ) from error


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Make the store's errors ours. What they say of addresses is for the log."""
    try:
        yield
    except FileNotFoundError as error:
        said = str(error)
        if "NoSuchBucket" in said:
            log.error("store_failed", object=name, error=_first_line(error))
            raise StoreUnavailable("The store's bucket is gone.", expected="a bucket (UNDERCURRENT_STORE_URL)", got="none") from error
        raise ObjectNotFound("The store has no such object.", expected="an object that was kept", got=name) from error
    except (BaseError, PermissionError) as error:
        if NO_SPACE.search(str(error)):
            raise DiskFull("The disk is full; delete analyses or give the service more room.", expected="room", got="none") from error
        log.error("store_failed", object=name, error=_first_line(error))
        raise StoreUnavailable(
            "The store of media and evidence does not answer, or refuses.", expected="a store that can be used", got=type(error).__name__
        ) from error


def _first_line(error: BaseException) -> str:
    """Without the source of the error, which repeats it."""
    return str(error).partition("\n")[0][:500]
