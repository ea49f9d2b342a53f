"""The catalogue: `text/en.json` comes in, sections of words go out to templates (`t.section.key`) and islands (`text.ts`).

Another language is another file beside it with the same keys.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Final

ENGLISH: Final = "en"
SHARED: Final = ("common", "states", "reasons", "advice", "welfare")
"""What every island may say."""

Section = dict[str, str]


@cache
def catalogue(language: str = ENGLISH) -> dict[str, Section]:
    """Every section of a language."""
    read: dict[str, Section] = json.loads((files("service.dashboard") / "text" / f"{language}.json").read_text("utf-8"))
    return read


def sections(*names: str) -> dict[str, Section]:
    """The shared sections and those that a page's islands speak."""
    words = catalogue()
    return {name: words[name] for name in (*SHARED, *names)}
