"""Room for pictures: a shape comes in, an uninitialised uint8 image goes out. Asked by `pictures.py` and by the media sandbox.

A fresh 720p image costs 440 page faults, 0.6 of the 0.9 ms that converting a picture takes (measured). One that nobody holds any more costs
none.
"""

from __future__ import annotations

import sys
from typing import Final, Protocol

import numpy as np

from pipelines.media import Image

KEPT: Final = 4


class Pool(Protocol):
    """Where pictures get their memory from."""

    def take(self, height: int, width: int) -> Image:
        """An image (height, width, 3) to be written to; it is the taker's until nothing refers to it."""
        ...


class ImagePool:
    """Hands out images; takes them back by itself when nothing refers to them. For one thread."""

    def __init__(self) -> None:
        self._images: list[Image] = []
        # What an image counts that only the pool holds: views count too, since their base is the array that owns the memory. Which other
        # references Python counts (the loop's, the argument's) differs between its versions, so it is asked.
        self._nobody_else = 0
        self._images.append(np.empty((0, 0, 3), dtype=np.uint8))
        for image in self._images:
            self._nobody_else = sys.getrefcount(image)

    def take(self, height: int, width: int) -> Image:
        """An image (height, width, 3) that nobody else holds; its content is whatever was there."""
        shape = (height, width, 3)
        for image in self._images:
            if image.shape == shape and sys.getrefcount(image) == self._nobody_else:
                return image
        image = np.empty(shape, dtype=np.uint8)
        self._images = [*self._images[-(KEPT - 1) :], image]
        return image
