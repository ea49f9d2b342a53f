"""Durability: files that were just written come in; when this returns, a power cut leaves them. Used by `objects.py` for its directory.

Whoever writes a row about a file does so after this, and SQLite syncs the row: else a start after a power cut finds the one without the
other, an analysis whose media is lost, or media that no row knows and that is removed for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def sync(root: Path, names: Iterable[str]) -> None:
    """Have the disk keep these files and every directory on the way to them, `root` too; nothing happens to what is gone already.

    Raises:
        OSError: the disk does not keep them.
    """
    paths = [root / name for name in names]
    folders = {folder for path in paths for folder in path.parents if folder == root or root in folder.parents}
    for path in paths:
        with suppress(FileNotFoundError):
            _sync(path)
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        # A folder cannot be synced everywhere (CIFS, some FUSE); there its server keeps names or nobody does.
        with suppress(FileNotFoundError):
            try:
                _sync(folder)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
