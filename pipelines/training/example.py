"""A pseudo-fake for people to look at: portraits in, an Example out. Shown by `contact_sheet.py` and `play_clip.py`.

A detector learns whatever the fakes have in common, so a mask beside the face or a fake that nobody can see is a wrong lesson, and no
loss curve shows it. Everything here is made by the functions that training calls, with the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import NothingToShow
from pipelines.training.degradations import Wear
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, FakeClip, Kind, draw_kind, make_fake, nearest, usable_points
from pipelines.training.sequences import DONORS, PARTIAL_SHARE

STILL_KINDS: Final = frozenset({"static", "identity_swap", "residue"})
"""Kinds that one picture can show; all others are about time."""
MIN_FRAMES: Final = 16
PLAY_FRAMES: Final = 240


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One pseudo-fake with what it was made from."""

    identity: str
    file: str
    clip: Clip
    made: FakeClip
    strength: float
    wear: Wear

    @property
    def change(self) -> float:
        """Mean difference inside the mask, in grey levels; below MIN_CHANGE the label is a lie."""
        inside = self.made.masks > 0.2
        return float(_difference(self.made)[inside].mean()) if inside.any() else 0.0

    @property
    def at(self) -> int:
        """The frame that changed most."""
        return int(_difference(self.made).mean((1, 2)).argmax())

    @property
    def opacity(self) -> float:
        """The largest of the mask, 0 to 1."""
        return float(self.made.masks.max())

    @property
    def on_face(self) -> float:
        """Share of the mask that lies within the hull of the face's dense points, in the frame `at`."""
        mask = self.made.masks[self.at]
        hull = cv2.convexHull(self.clip.points[self.at].astype(np.float32))
        face = cv2.fillPoly(np.zeros(mask.shape, dtype=np.float32), [np.round(hull).astype(np.int32)], 1.0)
        return float((mask * face).sum() / max(float(mask.sum()), 1e-6))

    @property
    def altered(self) -> str:
        """Who carries the donor's alteration: half the time it is the real one, so that no global statistic tells the two apart."""
        return "donor" if np.array_equal(self.made.real, self.clip.crops) else "target"


def draw_example(
    portraits: Sequence[Portrait],
    rng: np.random.Generator,
    *,
    kind: Kind | None = None,
    donors: Sequence[Portrait] | None = None,
    frames: int = PLAY_FRAMES,
    span_s: float | None = None,
    moving: bool = False,
    partial: bool = False,
) -> Example:
    """One pseudo-fake as training draws it, of a random person. `moving` asks for a video even where a still could show the kind.

    At most `frames` frames: consecutive ones, or evenly taken from `span_s` seconds. Their times are the source's own. `donors` may lend
    their face to a swap; without, `portraits` do.

    Raises:
        NothingToShow: nothing is long enough, or a swap has no second person.
    """
    kind = draw_kind(rng) if kind is None else kind
    lenders = portraits if donors is None else donors
    reason = impossible(portraits, lenders, kind, moving=moving)
    if reason is not None:
        raise reason
    able = [one for one in portraits if len(one.t) >= _frames_needed(kind, moving=moving)]
    people = sorted({one.identity for one in able})
    person = people[int(rng.integers(len(people)))]
    theirs = [one for one in able if one.identity == person]
    portrait = theirs[int(rng.integers(len(theirs)))]
    still = kind in STILL_KINDS and not moving
    clip = _window(portrait, rng, frames=1 if still else frames, span_s=span_s)
    donor = None
    if kind == "identity_swap":
        others = [one for one in lenders if one.identity != person]
        drawn = rng.integers(len(others), size=DONORS)
        donor = nearest([_window(others[int(i)], rng, frames=len(clip.t), span_s=span_s) for i in drawn], clip)
    strength = float(rng.uniform(0.5, 1.0))
    made = make_fake(clip, rng, kind=kind, other=donor, strength=strength, partial=partial and rng.random() < PARTIAL_SHARE)
    return Example(portrait.identity, portrait.file, clip, made, strength, Wear.draw(rng))


def impossible(portraits: Sequence[Portrait], donors: Sequence[Portrait], kind: Kind, *, moving: bool = False) -> NothingToShow | None:
    """Why no portrait can carry a fake of `kind`, or None."""
    if not portraits:
        return NothingToShow(
            "The store holds no face that fits.", expected="at least one track, as `undercurrent train crops` cuts it", got="none"
        )
    needed, longest = _frames_needed(kind, moving=moving), max(len(one.t) for one in portraits)
    if longest < needed:
        return NothingToShow(
            f"No clip is long enough for {kind}.",
            expected=f"a video track of at least {needed} frames",
            got=f"{len(portraits)} track(s), the longest of {longest} frame(s)",
        )
    if kind == "identity_swap" and len({one.identity for one in (*portraits, *donors)}) < 2:
        return NothingToShow("An identity swap needs a donor.", expected="tracks of at least two people", got="one person")
    return None


def _frames_needed(kind: Kind, *, moving: bool) -> int:
    return MIN_FRAMES if moving or kind not in STILL_KINDS else 1


def _window(portrait: Portrait, rng: np.random.Generator, *, frames: int, span_s: float | None) -> Clip:
    total = len(portrait.t)
    if span_s is None or frames == 1:
        first = int(rng.integers(max(total - frames, 0) + 1))
        rows = np.arange(first, min(first + frames, total))
    else:
        latest = int(np.searchsorted(portrait.t, portrait.t[-1] - span_s, side="right"))
        first = int(rng.integers(max(latest, 1)))
        end = int(np.searchsorted(portrait.t, portrait.t[first] + span_s, side="right"))
        rows = np.unique(np.round(np.linspace(first, end - 1, frames)).astype(int))
    return Clip(np.asarray(portrait.crops[rows]), portrait.t[rows], usable_points(portrait.dense[rows]))


def _difference(made: FakeClip) -> NDArray[np.float32]:
    return np.asarray(np.abs(made.fake.astype(np.float32) - made.real.astype(np.float32)).mean(axis=3), dtype=np.float32)
