"""Looking at the pseudo-fakes: portraits in, a contact sheet or a side-by-side clip out. Drawn by `service/cli_inspect.py` for people.

A detector learns whatever the fakes have in common, so a mask beside the face or a fake that nobody can see is a wrong lesson, and no
loss curve shows it. Everything here is made by the functions that training calls, with the same draws.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import NothingToShow
from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Wear
from pipelines.training.masks import FAMILIES
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import KINDS, MIN_CHANGE, Clip, FakeClip, Kind, draw_kind, make_fake, nearest, usable_points
from pipelines.training.sequences import DONORS, PARTIAL_SHARE
from pipelines.training.video_writer import VideoWriter

STILL_KINDS: Final = frozenset({"static", "identity_swap", "residue"})
"""Kinds that one picture can show; all others are about time."""
MIN_FRAMES: Final = 16
SHEET_SPAN_S: Final = 2.0
SHEET_FRAMES: Final = 16
PLAY_FRAMES: Final = 240
TRIES: Final = 60
"""Draws for one row before the family that was asked for is given up: the rarest has a share of 6 %."""
AMPLIFY: Final = 4

INK: Final = (34, 49, 63)
QUIET: Final = (120, 132, 143)
PAPER: Final = (255, 255, 255)
BAND: Final = (227, 232, 236)
ALARM: Final = (213, 94, 0)
CALM: Final = (0, 114, 178)
SHEET_LABEL_PX: Final = 250
GAP: Final = 6
BAND_PX: Final = 26
PANEL_PX: Final = 384
TOP_PX: Final = 64
FOOT_PX: Final = 40


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
        reason = _impossible(portraits, portraits, kind)
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
            one = draw_example(portraits, rng, kind=kind, frames=SHEET_FRAMES, span_s=SHEET_SPAN_S)
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
    reason = _impossible(portraits, lenders, kind, moving=moving)
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


def draw_contact_sheet(sheet: Sheet, *, worn: bool) -> Image:
    """The sheet as one RGB picture: a row an example, a band a kind; `worn` adds both sides after the same wear."""
    columns = ["real", "fake", "mask", f"difference x{AMPLIFY}", *(["real, worn", "fake, worn"] if worn else [])]
    size = sheet.examples[0].clip.crops.shape[1]
    width = SHEET_LABEL_PX + len(columns) * (size + GAP)
    strips = [_blank(BAND_PX, width)]
    for number, name in enumerate(columns):
        _write(strips[0], name, SHEET_LABEL_PX + number * (size + GAP), 18, QUIET, 14)
    before = ""
    for one in sheet.examples:
        if one.made.kind != before:
            before = one.made.kind
            strips.append(np.full((BAND_PX, width, 3), BAND, dtype=np.uint8))
            _write(strips[-1], before, 8, 19, INK, 17, bold=True)
        strips.append(_row(one, width, size, worn=worn))
    return np.concatenate(strips)


def side_by_side(example: Example, *, slow: float = 1.0) -> Iterator[Image]:
    """Each moment of a clip as one picture: real | fake | mask | difference, and what and when it is."""
    made, t = example.made, example.clip.t
    labels = made.frame_labels
    width = 4 * PANEL_PX
    speed = "" if slow == 1 else f", shown {slow:g} times slower"
    title = f"{made.kind}, {made.family}, opacity {example.opacity:.2f}, strength {example.strength:.2f}, {example.change:.1f} grey levels"
    for i, seconds in enumerate(t):
        tampered = bool(labels[i])
        picture = _blank(TOP_PX + PANEL_PX + FOOT_PX, width)
        _write(picture, title, 10, 24, INK, 18, bold=True)
        _write(picture, f"{example.identity}{speed}", 10, 50, QUIET, 16)
        when = f"t = {seconds:8.3f} s   frame {i + 1}/{len(t)}" + (f"   dt {1000 * (seconds - t[i - 1]):5.1f} ms" if i else "")
        _write(picture, when, width - 380, 24, INK, 18)
        _write(picture, "TAMPERED" if tampered else "untouched", width - 380, 52, ALARM if tampered else CALM, 20, bold=True)
        for number, (name, panel) in enumerate(_panels(example, i)):
            place = slice(number * PANEL_PX, (number + 1) * PANEL_PX)
            picture[TOP_PX : TOP_PX + PANEL_PX, place] = cv2.resize(panel, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_LINEAR)
            _write(picture, name, number * PANEL_PX + 8, TOP_PX + 22, PAPER, 16, shadow=True)
        if tampered:
            picture[TOP_PX : TOP_PX + PANEL_PX, PANEL_PX : PANEL_PX + 4] = ALARM
            picture[TOP_PX : TOP_PX + PANEL_PX, 2 * PANEL_PX - 4 : 2 * PANEL_PX] = ALARM
        _draw_time(picture, t, labels, i)
        yield picture


def encode_clip(pictures: Iterable[Image], t: NDArray[np.float64], suffix: str, *, slow: float = 1.0) -> tuple[bytes, list[float]]:
    """A video file whose pictures stand at the times `t` (T,) in seconds, from the first on: nothing is resampled, VFR stays VFR.

    Args:
        suffix: `.mp4` (H.264, ticks of 1/90000 s) or `.webm` (VP9, whose container knows milliseconds only).
        slow: how many times longer than life it lasts.

    Returns:
        the file, and the seconds at which each picture was written.
    """
    mp4 = suffix == ".mp4"
    base = Fraction(1, 90_000) if mp4 else Fraction(1, 1000)
    ticks = np.round((t - t[0]) * slow / float(base)).astype(np.int64)
    # Two pictures of one stamp happen in real files; a container takes only rising ones.
    steps = np.arange(len(ticks))
    ticks = np.maximum.accumulate(ticks - steps) + steps
    last = int(np.median(np.diff(ticks))) if len(ticks) > 1 else round(0.5 / base)
    lasts = dict(zip(ticks.tolist(), [*np.diff(ticks).tolist(), last], strict=True))
    # No B-frames: with them the first stamp is not 0 and a player must honour an edit list.
    options = {"crf": "18", "preset": "veryfast", "bf": "0"} if mp4 else {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "5"}
    codec, container = ("libx264", "mp4") if mp4 else ("libvpx-vp9", "webm")
    buffer = io.BytesIO()
    with VideoWriter(buffer, codec, options | {"threads": "1"}, container=container, tick=base, lasts=lasts) as writer:
        for picture, tick in zip(pictures, ticks.tolist(), strict=True):
            writer.write(picture, tick)
    return buffer.getvalue(), [float(tick * base) for tick in ticks.tolist()]


def _place(name: str) -> int:
    """Where the code lists a kind or family."""
    known: tuple[str, ...] = (*KINDS, *FAMILIES)
    return known.index(name) if name in known else len(known)


def _impossible(portraits: Sequence[Portrait], donors: Sequence[Portrait], kind: Kind, *, moving: bool = False) -> NothingToShow | None:
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


def _panels(example: Example, i: int) -> list[tuple[str, Image]]:
    made = example.made
    real, fake = made.real[i], made.fake[i]
    change = np.clip(128 + AMPLIFY * (fake.astype(np.float32) - real), 0, 255).astype(np.uint8)
    # The mask over the dimmed face: alone it does not say whether it sits where it should.
    mask = made.masks[i][..., None]
    over = (0.35 * real.astype(np.float32)) * (1 - mask) + np.array(PAPER, dtype=np.float32) * mask
    return [("real", real), ("fake", fake), ("mask", over.astype(np.uint8)), (f"difference x{AMPLIFY}", change)]


def _row(one: Example, width: int, size: int, *, worn: bool) -> Image:
    strip = _blank(size + GAP, width)
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
    _write(strip, made.family, 8, 22, INK, 17, bold=True)
    for number, line in enumerate(lines):
        _write(strip, line, 8, 46 + 21 * number, ALARM if "FAINT" in line else QUIET, 14)
    tiles = [panel for _, panel in _panels(one, at)]
    if worn:
        tiles += [one.wear.clip(side, one.clip.t, CROP_PX)[at] for side in (made.real, made.fake)]
    for number, tile in enumerate(tiles):
        inset = (size - tile.shape[0]) // 2
        x = SHEET_LABEL_PX + number * (size + GAP) + inset
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


def _draw_time(picture: Image, t: NDArray[np.float64], labels: NDArray[np.float32], i: int) -> None:
    """A strip at the foot: a tick for each picture at its true time, high where it was tampered with, and where we are."""
    left, right, foot = 10, picture.shape[1] - 10, picture.shape[0] - 8
    span = max(float(t[-1] - t[0]), 1e-9)
    for k, seconds in enumerate(t):
        x = round(left + (right - left) * float(seconds - t[0]) / span)
        top = foot - (18 if labels[k] else 8)
        picture[top:foot, x : x + 2] = ALARM if labels[k] else QUIET
        if k == i:
            picture[foot - 28 : foot + 4, x - 1 : x + 3] = INK


def _blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


def _write(
    picture: Image,
    text: str,
    x: int,
    baseline: int,
    colour: tuple[int, int, int],
    px: int,
    *,
    bold: bool = False,
    shadow: bool = False,
) -> None:
    """Text in the font that OpenCV 5 brings along, so that it reads the same on every machine."""
    font = cv2.FontFace("sans")
    if shadow:
        cv2.putText(picture, text, (x + 1, baseline + 1), (0, 0, 0), font, px, 700)
    cv2.putText(picture, text, (x, baseline), colour, font, px, 700 if bold or shadow else 400)
