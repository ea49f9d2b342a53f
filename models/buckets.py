"""BucketedEye: a FaceEncoder on a device that is quicker with many crops at once. uint8 crops in, EncoderOutput out; the Eye of a GPU.

A batch goes through in buckets of a few sizes, because a CUDA graph has fixed shapes; what one lacks is filled up with what lies there.
Nothing in the net looks at two rows at once, so a row's result depends on no other row; but how many share a bucket decides how a GPU
adds up, so it depends on that by as much as bf16 rounds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.encoder import EncoderOutput, FaceEncoder
from models.graphs import capture

BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BF16_SINCE: Final = (8, 0)
"""Compute capability from which a GPU multiplies bf16 itself."""


class BucketedEye:
    """Looks at crops with an encoder that stays where and as it is; may be called from many threads, which take turns.

    Args:
        encoder: on its device, in evaluation mode; best with its weights in channels_last.
        buckets: rows of a pass. One that the GPU has no memory for is given up, with those above it.
        dtype: of the convolutions; None takes bfloat16 on a GPU that has it, else float32. Stem and read-outs are float32 (`FaceEncoder`).
    """

    def __init__(self, encoder: FaceEncoder, *, buckets: Sequence[int] = BUCKETS, dtype: torch.dtype | None = None) -> None:
        self._encoder = encoder
        self._device = next(encoder.parameters()).device
        self._buckets = sorted(buckets)
        self._dtype = dtype or _dtype_of(self._device)
        self._passes: dict[int, _Pass] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None
        self._lock = threading.Lock()

    @property
    def buckets(self) -> tuple[int, ...]:
        """Those that are still used, the smallest first."""
        return tuple(self._buckets)

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.uint8]) -> EncoderOutput:
        """uint8 RGB crops (N, S, S, 3), N >= 1 and S = `dims.crop_px` -> EncoderOutput on the encoder's device.

        Raises:
            torch.cuda.OutOfMemoryError: there is no room even for the smallest bucket.
        """
        parts: list[EncoderOutput] = []
        at = 0
        with self._lock:
            while at < len(crops):
                rows = next((bucket for bucket in self._buckets if bucket >= len(crops) - at), self._buckets[-1])
                part = self._seen(crops[at : at + rows], rows)
                if part is None:
                    self._give_up(rows)
                else:
                    parts.append(part)
                    at += rows
        return parts[0] if len(parts) == 1 else EncoderOutput(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _seen(self, crops: NDArray[np.uint8], rows: int) -> EncoderOutput | None:
        """At most `rows` crops through their bucket; None if there is no memory for it, but perhaps for a smaller one."""
        try:
            if rows not in self._passes:
                self._passes[rows] = _Pass(self._encoder, rows, self._dtype, self._pool)
            return self._passes[rows](crops)
        except RuntimeError as error:
            if rows == self._buckets[0] or not _out_of_memory(error):
                raise
        return None

    def _give_up(self, rows: int) -> None:
        # Not while the error is handled: its traceback holds the tensors that did find room.
        for bucket in [bucket for bucket in self._buckets if bucket >= rows]:
            self._buckets.remove(bucket)
            self._passes.pop(bucket, None)
        torch.cuda.empty_cache()


class _Pass:
    """One bucket: `rows` crops are staged, copied and looked at, as one CUDA graph where there is a GPU."""

    def __init__(self, encoder: FaceEncoder, rows: int, dtype: torch.dtype, pool: Any) -> None:  # noqa: ANN401 - torch names no type
        device = next(encoder.parameters()).device
        on_gpu = device.type == "cuda"
        px = encoder.dims.crop_px
        # Pinned, so that the copy needs no help of the processor, which may go on meanwhile.
        self._staging = torch.zeros((rows, px, px, 3), dtype=torch.uint8, pin_memory=on_gpu)
        self._copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self._crops = torch.zeros_like(self._staging, device=device)
        self._output: EncoderOutput

        def launch() -> None:
            # TF32 would take from the stem and the read-outs what fp32 is for; chosen by timing, kernels would differ from start to start.
            exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            with exact, torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                # Rows of pictures as they lie are already channels_last.
                self._output = encoder(self._crops.permute(0, 3, 1, 2))

        self._launch: Callable[[], object] = capture(launch, device, pool=pool) if on_gpu else launch

    def __call__(self, crops: NDArray[np.uint8]) -> EncoderOutput:
        """Of at most `rows` crops, in tensors of their own."""
        n = len(crops)
        if self._copied is not None:
            self._copied.synchronize()  # the crops before these may still be on their way
        np.copyto(self._staging[:n].numpy(), crops)
        self._crops[:n].copy_(self._staging[:n], non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self._crops.device))
        self._launch()
        return EncoderOutput(*(part[:n].clone() for part in self._output))


def _dtype_of(device: torch.device) -> torch.dtype:
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _BF16_SINCE
    return torch.bfloat16 if has_bf16 else torch.float32


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether that is what went wrong first: ending a capture that has failed raises an error of its own."""
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
