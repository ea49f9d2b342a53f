"""What the commands leave behind: a path and bytes in, a whole file or a refusal out; how far they are, and the status "interrupted".

Used by `cli.py` and the other `cli_*.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console

from pipelines.errors import OutputError

T = TypeVar("T")

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


def check_writable(path: Path) -> None:
    """Refuse a `path` that `write_file` could not write: before minutes of work, not after.

    Raises:
        OutputError: it is a directory, lies in none, or may not be written.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        got = "a directory" if path.is_dir() else "no such directory" if not folder.is_dir() else "no permission"
        raise OutputError(f"{path} cannot be written.", expected="a writable file in an existing directory", got=got)


def check_folder(folder: Path, *, force: bool) -> None:
    """Refuse a `folder` that is no writable directory and cannot be made, or, without `force`, holds something.

    Raises:
        OutputError: as said.
    """
    if folder.is_dir():
        held = sum(1 for _ in folder.iterdir())
        if held and not force:
            raise OutputError(f"{folder} is not empty.", expected="a new or empty directory, or --force", got=f"{held} entries")
        where = folder
    else:
        where = folder.absolute().parent
    if not where.is_dir() or folder.is_file() or not os.access(where, os.W_OK):
        got = "a file" if folder.is_file() else "no permission" if where.is_dir() else "no such parent directory"
        raise OutputError(f"{folder} cannot be written.", expected="a writable directory, or its parent", got=got)


def write_file(path: Path, content: bytes) -> None:
    """Write `content` whole or not at all: a reader, or a crash half-way, never sees a part.

    Raises:
        OutputError: the file system refused, with its reason.
    """
    part: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
            part = Path(file.name)
            file.write(content)
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written.", expected="a writable file", got=error.strerror or str(error)) from error


class Steps:
    """Progress on stderr; silent where nobody looks."""

    def __init__(self, what: str, total: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def reached(self, number: int) -> None:
        """So many are done."""
        self._bar.update(self._task, completed=number)

    def one_more(self) -> None:
        """Another one is done."""
        self._bar.advance(self._task)

    def each(self, things: Iterable[T]) -> Iterator[T]:
        """The same things; each one that is taken counts."""
        for thing in things:
            yield thing
            self.one_more()
