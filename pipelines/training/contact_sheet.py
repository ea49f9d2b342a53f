"""The contact sheet: portraits in, examples evenly over kinds and families and one picture of them all out.

Drawn for people by `undercurrent train sheet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Wear
from pipelines.training.example import Example, draw_example, impossible
from pipelines.training.masks import FAMILIES
from pipelines.training.panels import ALARM, AMPLIFY, INK, QUIET, blank, panels, write
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import KINDS, MIN_CHANGE, Kind

SPAN_S: Final = 2.0
FRAMES: Final = 16
TRIES: Final = 60
"""Draws for one row before the family that was asked for is given up: the rarest has a share of 6 %."""
BAND: Final = (227, 232, 236)
LABEL_PX: Final = 250
GAP_PX: Final = 6
BAND_PX: Final = 26


@dataclass(frozen=True, slots=True)
class Count:
    """How the draws of one kind or family came out."""

    name: str
    draws: int
    shown: int
    change: float
    """Mean over the draws, grey levels inside the mask."""
    faint: int
    """Draws that changed less than MIN_CHANGE."""
    on_face: float
    """Smallest over the rows shown: the share of the mask that lies on the face."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Examples ordered by kind and family, and what else was drawn to get them."""

    examples: tuple[Example, ...]
    draws: tuple[tuple[str, str, float], ...]
    """Every draw, shown or not: kind, family, change."""
    notes: tuple[str, ...]

    def counts(self, by: Literal["kind", "family"]) -> list[Count]:
        """One Count for each `kind` or `family`, in the order in which the code lists them."""
        draws = [(kind if by == "kind" else family, change) for kind, family, change in self.draws]
        found = []
        for name in sorted({name for name, _ in draws}, key=_place):
            change = [value for drawn, value in draws if drawn == name]
            shown = [one for one in self.examples if name == (one.made.kind if by == "kind" else one.made.family)]
            faint = sum(value < MIN_CHANGE for value in change)
            on_face = min((one.on_face for one in shown), default=float("nan"))
            found.append(Count(name, len(change), len(shown), float(np.mean(change)), faint, on_face))
        return found


def draw_sheet(
    portraits: Sequence[Portrait],
    *,
    rows: int,
    seed: int,
    kinds: Sequence[Kind] = (),
    families: Sequence[str] = (),
    on_row: Callable[[int], None] | None = None,
) -> Sheet:
    """Draw `rows` examples, evenly over `kinds` and `families` (all of them where none is named), ordered by both.

    Evenly, and not in the shares of training, so that the rare ones are seen; `Sheet.draws` holds what came by itself on the way.

    Raises:
        NothingToShow: no portrait can carry a kind that was named.
    """
    possible: list[Kind] = []
    notes = []
    for kind in kinds or KINDS:
        reason = impossible(portraits, portraits, kind)
        if reason is None:
            possible.append(kind)
        elif kinds or kind == "static":
            raise reason
        else:
            notes.append(f"{kind} is left out: {reason.detail}")
    wanted = list(families or FAMILIES)
    rng = np.random.default_rng(seed)
    examples: list[Example] = []
    draws: list[tuple[str, str, float]] = []
    for row in range(rows):
        # Row by row each kind meets the next family, so that len(families) rounds show every pair.
        kind, turn = possible[row % len(possible)], row // len(possible)
        family = wanted[(row % len(possible) + turn) % len(wanted)]
        for _ in range(TRIES):
            one = draw_example(portraits, rng, kind=kind, frames=FRAMES, span_s=SPAN_S)
            draws.append((one.made.kind, one.made.family, one.change))
            if one.made.family == family:
                break
        else:
            notes.append(f"{kind} never came with {family} in {TRIES} draws: {one.made.family} is shown instead")
        examples.append(one)
        if on_row is not None:
            on_row(row + 1)
    examples.sort(key=lambda one: (_place(one.made.kind), _place(one.made.family)))
    return Sheet(tuple(examples), tuple(draws), tuple(notes))


def draw_contact_sheet(sheet: Sheet, *, worn: bool) -> Image:
    """The sheet as one RGB picture: a row an example, a band a kind; `worn` adds both sides after the same wear."""
    columns = ["real", "fake", "mask", f"difference x{AMPLIFY}", *(["real, worn", "fake, worn"] if worn else [])]
    size = sheet.examples[0].clip.crops.shape[1]
    width = LABEL_PX + len(columns) * (size + GAP_PX)
    strips = [blank(BAND_PX, width)]
    for number, name in enumerate(columns):
        write(strips[0], name, LABEL_PX + number * (size + GAP_PX), 18, QUIET, 14)
    before = ""
    for one in sheet.examples:
        if one.made.kind != before:
            before = one.made.kind
            strips.append(np.full((BAND_PX, width, 3), BAND, dtype=np.uint8))
            write(strips[-1], before, 8, 19, INK, 17, bold=True)
        strips.append(_row(one, width, size, worn=worn))
    return np.concatenate(strips)


def _row(one: Example, width: int, size: int, *, worn: bool) -> Image:
    strip = blank(size + GAP_PX, width)
    made, at = one.made, one.at
    lines = [
        f"opacity {one.opacity:.2f}   strength {one.strength:.2f}",
        f"change {one.change:.1f} grey levels" + ("   FAINT" if one.change < MIN_CHANGE else ""),
        f"mask {made.masks[at].mean() / max(one.opacity, 1e-6):.0%} of crop, {one.on_face:.0%} on the face",
        f"{one.altered} altered",
        f"frame {at + 1} of {len(one.clip.t)}, t = {one.clip.t[at]:.3f} s",
        *([_wear_words(one.wear)] if worn else []),
        one.identity if len(one.identity) < 34 else f"{one.identity[:31]}...",
    ]
    write(strip, made.family, 8, 22, INK, 17, bold=True)
    for number, line in enumerate(lines):
        write(strip, line, 8, 46 + 21 * number, ALARM if "FAINT" in line else QUIET, 14)
    tiles = [panel for _, panel in panels(one, at)]
    if worn:
        tiles += [one.wear.clip(side, one.clip.t, CROP_PX)[at] for side in (made.real, made.fake)]
    for number, tile in enumerate(tiles):
        inset = (size - tile.shape[0]) // 2
        x = LABEL_PX + number * (size + GAP_PX) + inset
        strip[inset : inset + tile.shape[0], x : x + tile.shape[1]] = tile
    return strip


def _wear_words(wear: Wear) -> str:
    """The losses of a wear in a few words; light and geometry show by themselves."""
    said = [f"{wear.codec[0].removeprefix('lib')} q{wear.codec[1]}"] if wear.codec else []
    said += [f"jpeg {wear.jpeg}"] if wear.jpeg else []
    said += [f"1/{wear.capture:.1f} size"] if wear.capture > 1 else []
    said += [f"blur {wear.blur:.1f}"] if wear.blur else []
    said += [f"noise {wear.noise:.0f}"] if wear.noise else []
    said += ["distractor"] if wear.distractor is not None else []
    return "wear: " + (", ".join(said) or "light only")


def _place(name: str) -> int:
    """Where the code lists a kind or family."""
    known: tuple[str, ...] = (*KINDS, *FAMILIES)
    return known.index(name) if name in known else len(known)
