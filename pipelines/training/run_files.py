"""Weights in a run directory: a file and a net of its shape in, the net with the file's weights out. Read by training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.errors import SourceNotFound, UnsupportedMedia


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a `.pt` file.

    Raises:
        SourceNotFound: there is no such file.
    """
    if not path.is_file():
        raise SourceNotFound(f"{path.name} is missing.", expected="the file that the stage before writes", got=f"no {path}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def restore(net: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give `net` the weights `state`, which came from `path`.

    Raises:
        UnsupportedMedia: they are of another net; a run of an earlier version cannot be gone on with.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UnsupportedMedia(
            f"{path.name} holds the weights of another version of this net.",
            expected=f"weights that fit {type(net).__name__}; start anew in an empty run directory",
            got=str(error).splitlines()[-1].strip(),
        ) from error
