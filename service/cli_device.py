"""The option `--device` of commands that judge: a word in, the same word or a usage error out."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from pipelines.devices import DEVICE_WORDS


def _checked(words: str) -> str:
    if not re.match(DEVICE_WORDS, words):
        raise typer.BadParameter(f"expected auto, cpu, cuda or cuda:N; got {words}")
    return words


Device = Annotated[
    str,
    typer.Option(help="Where the nets run; of several GPUs (cuda, cuda:1,3) the first.", metavar="auto|cpu|cuda[:N]", callback=_checked),
]
