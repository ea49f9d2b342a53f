"""Nets through ONNX Runtime: what torch says within 1e-5, each row by itself, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from models.compiled import CompiledNet, _Hinges, onnx_bytes
from models.encoder import EncoderDims, FaceEncoder
from models.eye import Eye
from models.face_detector import FaceDetector


@pytest.fixture(scope="module")
def eye() -> tuple[FaceEncoder, Eye]:
    torch.manual_seed(0)
    encoder = FaceEncoder().eval().requires_grad_(False)
    return encoder, Eye(encoder)


def _crops(n: int, px: int = 160) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(n).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def test_the_eye_sees_what_the_encoder_does(eye: tuple[FaceEncoder, Eye]) -> None:
    encoder, look = eye
    crops = _crops(3)
    there, here = encoder(torch.from_numpy(crops).permute(0, 3, 1, 2)), look(crops)
    for expected, came in zip(there, here, strict=True):
        torch.testing.assert_close(came, expected, atol=1e-5, rtol=1e-4)


def test_a_row_has_the_same_bits_whoever_is_beside_it(eye: tuple[FaceEncoder, Eye]) -> None:
    crops = _crops(16)
    together = eye[1](crops)
    for i in (0, 7, 15):
        alone = eye[1](crops[i : i + 1])
        assert all(torch.equal(one[0], many[i]) for one, many in zip(alone, together, strict=True))


def test_an_encoder_of_another_size_and_threads_side_by_side() -> None:
    torch.manual_seed(1)
    look = Eye(FaceEncoder(EncoderDims(embedding=32, widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), crop_px=64)).eval())
    batches = [_crops(n, 64) for n in range(1, 9)]
    alone = [look(crops).embedding for crops in batches]
    with ThreadPoolExecutor(4) as pool:
        for expected, came in zip(alone, pool.map(look, batches), strict=True):
            assert torch.equal(expected, came.embedding)


@pytest.mark.parametrize(
    ("name", "shape", "free"), [("pnet", (1, 3, 64, 64), (2, 3)), ("rnet", (1, 3, 24, 24), ()), ("onet", (1, 3, 48, 48), ())]
)
def test_the_nets_of_the_detector_say_what_torch_says(name: str, shape: tuple[int, ...], free: tuple[int, ...]) -> None:
    net = getattr(FaceDetector(), name)
    compiled = CompiledNet(net, torch.zeros(shape), free=free)
    x = torch.randn(5, 3, *(side + 13 for side in shape[2:])) if free else torch.randn(5, *shape[1:])
    for expected, came in zip(net(x), compiled(x.numpy()), strict=True):
        torch.testing.assert_close(torch.from_numpy(came), expected, atol=1e-5, rtol=1e-4)


def test_a_prelu_becomes_two_relus_with_the_same_bits() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 5), nn.PReLU(5)).eval()
    with torch.no_grad():
        next(net[1].parameters()).copy_(torch.tensor([-0.5, 0.0, 0.25, 2.0]))
    x = torch.randn(6, 3, 8, 8)
    graph = onnx.load_from_string(onnx_bytes(net, x))
    assert "PRelu" not in {node.op_type for node in graph.graph.node}
    np.testing.assert_allclose(CompiledNet(net, x)(x.numpy())[0], net(x).detach().numpy(), atol=1e-6)
    prelu = nn.PReLU(8)
    for shape in ((24, 8, 6), (6, 8, 4, 6), (144, 8)):
        assert torch.equal(_Hinges(prelu)(x.view(shape)), prelu(x.view(shape)))
    assert any(isinstance(module, nn.PReLU) for module in net.modules()), "the net itself stays as it is"
