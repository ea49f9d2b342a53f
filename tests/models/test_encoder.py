"""The eye: shapes, unit embeddings, a high-pass that ignores flat pictures, dims that rebuild the net."""

from __future__ import annotations

import json

import pytest
import torch

from models.encoder import EncoderDims, FaceEncoder, HighPass


def test_shapes_and_unit_length() -> None:
    crops = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    seen = FaceEncoder().eval()(crops)
    assert seen.embedding.shape == (3, 128)
    assert seen.logit.shape == (3,)
    assert seen.blend_map.shape == (3, 2, 20, 20)
    torch.testing.assert_close(seen.embedding.norm(dim=1), torch.ones(3))


def test_it_is_small() -> None:
    assert sum(parameter.numel() for parameter in FaceEncoder().parameters()) < 900_000


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.7])
def test_the_high_pass_sees_nothing_in_a_flat_picture(level: float) -> None:
    residual = HighPass()(torch.full((1, 3, 32, 32), level))
    torch.testing.assert_close(residual[..., 2:-2, 2:-2], torch.zeros(1, 3, 28, 28), atol=1e-5, rtol=0)


def test_the_high_pass_saturates_at_edges() -> None:
    picture = torch.full((1, 3, 32, 32), -1.0)
    picture[..., 16:] = 1.0
    assert HighPass()(picture).abs().max() == 1.0


def test_dims_survive_json_and_rebuild_the_net() -> None:
    dims = EncoderDims(embedding=32, widths=(8, 16, 24, 32), depths=(1, 1, 1, 1))
    net = FaceEncoder.from_metadata(json.loads(json.dumps(dims.as_metadata())))
    assert net.dims == dims
    assert net.eval()(torch.zeros(1, 3, 160, 160)).embedding.shape == (1, 32)


def test_floats_and_bytes_of_the_same_pixels_agree() -> None:
    net, crops = FaceEncoder().eval(), torch.randint(0, 256, (1, 3, 160, 160), dtype=torch.uint8)
    assert torch.equal(net(crops).logit, net(crops.float()).logit)


def test_a_crop_of_another_size_gives_a_map_of_its_own_size() -> None:
    assert FaceEncoder().eval()(torch.zeros(1, 3, 128, 128)).blend_map.shape == (1, 2, 16, 16)
