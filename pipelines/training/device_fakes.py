"""Pairs made many at once on a device: packed recipes in, batches for the encoder out. Called by `encoder_training.py` where a GPU trains.

The twin of `PairRecipe.make`; a test holds each kind and mask family of one against the other. Video codecs have no twin: pairs that draw
one visit a pool of threads (FFmpeg lets go of Python's lock) while the device is busy with the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pipelines.media import Image
from pipelines.training.batched_steps import blend, enlarged, faces_of, worn
from pipelines.training.encoder_data import PairBatch
from pipelines.training.packed_pairs import PackedPairs, pack_fakes
from pipelines.training.pair_recipe import PairRecipe
from pipelines.training.pseudo_fakes import ATTEMPTS, INSIDE, MIN_CHANGE

# Batches that are begun before the first of them is finished: the codecs of one run while the device makes the next.
AHEAD: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A batch whose codecs are under way."""

    packed: PackedPairs
    tiles: Tensor
    """(2, B, 3, C, C) levels of the reals and the fakes; each in the corner of its canvas that its capture leaves."""
    maps: Tensor
    coded: list[Future[list[Image]]]


class DeviceFakes:
    """Makes packed pairs on `device`; `threads` run the codecs."""

    def __init__(self, device: str, *, threads: int) -> None:
        self._device, self._threads = torch.device(device), max(1, threads)

    def batches(self, stream: Iterable[PackedPairs]) -> Iterator[PairBatch]:
        """Every batch of the stream, in its order, on the device."""
        begun: deque[_Begun] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="codec") as pool:
            for packed in stream:
                begun.append(self._begin(packed, pool))
                if len(begun) > AHEAD:
                    yield self._finish(begun.popleft())
            while begun:
                yield self._finish(begun.popleft())

    @torch.no_grad()
    def _begin(self, packed: PackedPairs, pool: ThreadPoolExecutor) -> _Begun:
        there = packed.to(self._device)
        tiles, maps = worn(there, *self._blended(packed, there))
        rows, size = packed.rows["codec"].tolist(), packed.crop_px
        chosen = tiles[:, there.rows["codec"]].byte().permute(1, 0, 3, 4, 2).cpu().numpy()
        coded = [pool.submit(_coded, packed.recipes[row], images, size) for row, images in zip(rows, chosen, strict=True)]
        return _Begun(there, tiles, maps, coded)

    def _blended(self, packed: PackedPairs, there: PackedPairs) -> tuple[Tensor, Tensor, Tensor]:
        """Reals and fakes (B, 3, S, S) in whole levels and masks (B, 1, S, S), `there` being `packed` on the device.

        A fake that cannot be told from its original is drawn again, as `make_fake` does.
        """
        faces, donors, usable = faces_of(there)
        real, fake, mask = blend(faces, donors, usable, there.fakes)
        for attempt in range(1, ATTEMPTS):
            inside = mask > INSIDE
            change = ((fake - real).abs().mean(1, keepdim=True) * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)
            again = (change < MIN_CHANGE).nonzero()[:, 0]
            if not len(again):
                break
            recipes = [packed.recipe(row) for row in again.tolist()]
            drawn = [list(zip(range(attempt + 1), recipe.attempts(), strict=False))[-1][1] for recipe in recipes]
            fakes = pack_fakes(drawn, [recipe.target for recipe in recipes]).to(self._device)
            real[again], fake[again], mask[again] = blend(faces[again], donors[again], usable[again], fakes)
        return real, fake, mask

    @torch.no_grad()
    def _finish(self, begun: _Begun) -> PairBatch:
        tiles, rows, size = begun.tiles, begun.packed.rows, begun.packed.crop_px
        if begun.coded:
            back = torch.zeros((len(begun.coded), 2, size, size, 3), dtype=torch.uint8)
            for row, future in zip(back, begun.coded, strict=True):
                for canvas, tile in zip(row, future.result(), strict=True):
                    canvas[: tile.shape[0], : tile.shape[1]] = torch.from_numpy(tile)
            tiles[:, rows["codec"]] = back.to(self._device).permute(1, 0, 4, 2, 3).float()
        real, fake = enlarged(tiles, begun.packed).byte()
        return PairBatch(real, fake, begun.maps, begun.packed.points)


def _coded(recipe: PairRecipe, images: Image, size: int) -> list[Image]:
    """The real and the fake (2, C, C, 3) of one pair through its codec, at the size they were captured in."""
    assert recipe.wear.codec is not None
    side = recipe.wear.captured_px(size)
    return recipe.strip.coded([image[:side, :side] for image in images], recipe.wear.codec)
