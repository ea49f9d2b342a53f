"""The eye of a GPU, on a CPU as far as that goes: every row is what the encoder makes of it, whoever fills its bucket and whatever fits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from models.buckets import BucketedEye
from models.encoder import EncoderDims, EncoderOutput, FaceEncoder
from tests.support import require

SMALL = EncoderDims(embedding=32, widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), crop_px=64)
BUCKETS = (1, 2, 4, 8)


@cache
def encoder(dims: EncoderDims = SMALL) -> FaceEncoder:
    torch.manual_seed(0)
    return FaceEncoder(dims).eval().requires_grad_(False)


def crops(n: int, px: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def plain(given: NDArray[np.uint8]) -> EncoderOutput:
    """What the encoder itself makes of the crops, one at a time."""
    rows = [encoder()(torch.from_numpy(given[i : i + 1]).permute(0, 3, 1, 2)) for i in range(len(given))]
    return EncoderOutput(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


def same_bits(one: EncoderOutput, other: EncoderOutput) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def cramped(fits: int, sizes: list[int], error: Callable[[], RuntimeError]) -> FaceEncoder:
    """An encoder with memory for `fits` crops, that notes how many it was asked to look at."""

    class Cramped(FaceEncoder):
        def forward(self, given: Tensor) -> EncoderOutput:
            sizes.append(len(given))
            if len(given) > fits:
                raise error()
            return super().forward(given)

    small = Cramped(SMALL).eval().requires_grad_(False)
    small.load_state_dict(encoder().state_dict())
    return small


def no_memory() -> RuntimeError:
    return torch.cuda.OutOfMemoryError("CUDA out of memory")


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 21), buckets=st.sets(st.sampled_from(BUCKETS), min_size=1))
def test_however_many_come_each_is_what_the_encoder_makes_of_it(n: int, buckets: set[int]) -> None:
    eye = BucketedEye(encoder(), buckets=tuple(buckets))
    for came, expected in zip(eye(crops(n)), plain(crops(n)), strict=True):
        assert came.shape == expected.shape and came.dtype == torch.float32
        torch.testing.assert_close(came, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_fills_a_bucket_up_changes_no_bit(dtype: torch.dtype) -> None:
    mine = crops(3)
    fresh = BucketedEye(encoder(), buckets=(8,), dtype=dtype)(mine)
    used = BucketedEye(encoder(), buckets=(8,), dtype=dtype)
    for left_over in (crops(8), np.full((8, 64, 64, 3), 255, dtype=np.uint8)):
        used(left_over)
        assert same_bits(used(mine), fresh)
    together = used(np.concatenate([crops(5), mine]))
    assert same_bits(EncoderOutput(*(part[5:] for part in together)), fresh), "nor does who shares it, nor a row's place"


def test_bf16_is_for_the_convolutions_alone() -> None:
    given = crops(4)
    half, whole = BucketedEye(encoder(), dtype=torch.bfloat16)(given), plain(given)
    assert all(part.dtype == torch.float32 for part in half)
    assert not torch.equal(half.embedding, whole.embedding), "it was bf16"
    assert float((half.embedding - whole.embedding).abs().max()) < 0.02 * float(whole.embedding.abs().max())


def test_what_was_given_out_is_no_view_of_a_bucket() -> None:
    eye = BucketedEye(encoder(), buckets=(4,))
    first = eye(crops(3))
    kept = EncoderOutput(*(part.clone() for part in first))
    eye(crops(4))
    assert same_bits(first, kept)


def test_threads_take_turns() -> None:
    eye = BucketedEye(encoder(), buckets=(4,))
    batches = [crops(n) for n in (1, 2, 3, 4) * 4]
    alone = [BucketedEye(encoder(), buckets=(4,))(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        assert all(same_bits(came, expected) for came, expected in zip(pool.map(eye, batches), alone, strict=True))


def test_a_bucket_without_memory_is_given_up_and_the_batch_goes_on() -> None:
    sizes: list[int] = []
    eye = BucketedEye(cramped(3, sizes, no_memory), buckets=BUCKETS)
    came = eye(crops(7))
    assert sizes == [8, 4, 2, 2, 2, 1] and eye.buckets == (1, 2)
    torch.testing.assert_close(came.logit, plain(crops(7)).logit, atol=1e-5, rtol=1e-4)
    assert len(eye(crops(3)).logit) == 3 and sizes[6:] == [2, 1], "it is not tried again"


def test_what_went_wrong_first_counts() -> None:
    def ending_a_capture() -> RuntimeError:
        error = RuntimeError("operation failed due to a previous error during capture")
        error.__context__ = no_memory()
        return error

    eye = BucketedEye(cramped(1, [], ending_a_capture), buckets=BUCKETS)
    assert len(eye(crops(2)).logit) == 2 and eye.buckets == (1,)


def test_without_memory_for_one_and_with_other_errors_it_fails_and_keeps_its_buckets() -> None:
    eye = BucketedEye(cramped(0, [], no_memory), buckets=(1,))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        eye(crops(2))
    assert eye.buckets == (1,)
    eye = BucketedEye(cramped(0, [], lambda: RuntimeError("a kernel failed")), buckets=BUCKETS)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        eye(crops(2))
    assert eye.buckets == BUCKETS


class _FromHost(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that takes a tensor of the host and gives one of a GPU: a graph that is being captured may not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        result = func(*args, **(kwargs or {}))
        if any(isinstance(arg, Tensor) and arg.device.type == "cpu" for arg in args):
            self.seen.append(str(func))
        return result


def test_looking_copies_nothing_from_the_host() -> None:
    """With pretended tensors, because pretended GPUs are everywhere."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        pretended = FaceEncoder(SMALL).eval()
        given = torch.zeros((2, 3, 64, 64), dtype=torch.uint8)
        with _FromHost() as copies, torch.no_grad():
            came = pretended(given)
    assert all(part.device.type == "cuda" for part in came)
    assert copies.seen == []


# On a GPU


@cache
def on_gpu() -> FaceEncoder:
    torch.manual_seed(0)
    made = FaceEncoder().eval().requires_grad_(False)
    return made.to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub lacks this form


@pytest.mark.gpu
def test_on_a_gpu_every_bucket_says_what_a_plain_pass_says() -> None:
    require("gpu")
    eye, exact = BucketedEye(on_gpu()), BucketedEye(on_gpu(), dtype=torch.float32)
    for n in (1, 2, 3, 31, 64, 256, 300):
        given = crops(n, 160)
        with torch.no_grad():
            whole = on_gpu()(torch.from_numpy(given).to("cuda").permute(0, 3, 1, 2))
        torch.testing.assert_close(exact(given).embedding, whole.embedding, atol=1e-2, rtol=1e-2)  # the plain pass takes TF32
        torch.testing.assert_close(eye(given).logit, whole.logit, atol=0.1, rtol=0.05)
    assert eye.buckets[-1] == 256


@pytest.mark.gpu
def test_on_a_gpu_what_fills_a_bucket_up_changes_no_bit() -> None:
    require("gpu")
    mine = crops(3, 160)
    fresh, used = BucketedEye(on_gpu(), buckets=(16,))(mine), BucketedEye(on_gpu(), buckets=(16,))
    used(crops(16, 160))
    assert same_bits(used(mine), fresh)
    together = used(np.concatenate([crops(13, 160), mine]))
    assert same_bits(EncoderOutput(*(part[13:] for part in together)), fresh)


@pytest.mark.gpu
def test_on_a_gpu_how_many_share_a_bucket_matters_no_more_than_bf16_does() -> None:
    require("gpu")
    given = crops(16, 160)
    eye = BucketedEye(on_gpu())
    together, alone = eye(given), [eye(given[i : i + 1]) for i in range(16)]
    assert float((together.logit - torch.cat([one.logit for one in alone])).abs().max()) < 0.05


@pytest.mark.gpu
def test_on_a_gpu_without_memory_it_goes_on_in_smaller_buckets() -> None:
    require("gpu")
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    expected = BucketedEye(on_gpu(), buckets=(8,))(crops(64, 160))
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 300e6) / total)
    try:
        eye = BucketedEye(on_gpu())
        came = eye(crops(256, 160))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert free > 0 and eye.buckets[-1] < 256 and len(came.logit) == 256
    assert torch.isfinite(expected.logit).all()
