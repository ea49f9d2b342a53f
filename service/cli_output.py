"""What the commands leave behind: a path and bytes in, a whole file or a refusal out; and the exit status that says "interrupted".

Used by `cli.py` and the other `cli_*.py`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from pipelines.errors import OutputError

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
