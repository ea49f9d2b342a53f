"""The panels of an Example, and words beside them: one moment in, RGB pictures out. Used by `contact_sheet.py` and `play_clip.py`."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from pipelines.media import Image
from pipelines.training.example import Example

AMPLIFY: Final = 4
"""How many times larger than life a difference is shown."""
INK: Final = (34, 49, 63)
QUIET: Final = (120, 132, 143)
PAPER: Final = (255, 255, 255)
ALARM: Final = (213, 94, 0)
CALM: Final = (0, 114, 178)


def panels(example: Example, i: int) -> list[tuple[str, Image]]:
    """The frame `i` four times, by name: real, fake, mask over the dimmed face, and difference; each as large as the crop."""
    made = example.made
    real, fake = made.real[i], made.fake[i]
    change = np.clip(128 + AMPLIFY * (fake.astype(np.float32) - real), 0, 255).astype(np.uint8)
    # The mask over the dimmed face: alone it does not say whether it sits where it should.
    mask = made.masks[i][..., None]
    over = (0.35 * real.astype(np.float32)) * (1 - mask) + np.array(PAPER, dtype=np.float32) * mask
    return [("real", real), ("fake", fake), ("mask", over.astype(np.uint8)), (f"difference x{AMPLIFY}", change)]


def blank(height: int, width: int) -> Image:
    """An empty sheet of that many pixels."""
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


def write(
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
    """Draw text in the font that OpenCV 5 brings along, so that it reads the same on every machine."""
    font = cv2.FontFace("sans")
    if shadow:
        cv2.putText(picture, text, (x + 1, baseline + 1), (0, 0, 0), font, px, 700)
    cv2.putText(picture, text, (x, baseline), colour, font, px, 700 if bold or shadow else 400)
