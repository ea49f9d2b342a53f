"""The eye: shapes, unit embeddings, a high-pass that ignores flat pictures, dims that rebuild the net."""

from __future__ import annotations

import json

import pytest
import torch

from models.encoder import EncoderDims, FaceEncoder, HighPass, _contrast, _means, _oddness


def test_shapes_and_unit_length() -> None:
    crops = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    seen = FaceEncoder().eval()(crops)
    assert seen.embedding.shape == (3, 128)
    assert seen.logit.shape == (3,)
    assert seen.blend_map.shape == (3, 2, 20, 20)
    assert seen.fingerprint.shape == (3, 16, 20, 20)
    assert seen.points.shape == (3, 52, 2)
    torch.testing.assert_close(seen.fingerprint.norm(dim=1), torch.ones(3, 20, 20))


def test_the_distance_is_the_root_mean_square_of_the_embedding() -> None:
    seen = FaceEncoder().eval()(torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8))
    torch.testing.assert_close(seen.distance, seen.embedding.square().mean(1).sqrt())


def test_the_embedding_knows_the_inside_of_a_face_from_its_surroundings() -> None:
    """What moves inside alone must not look like what moves around it, else the memory cannot hold one against the other."""
    net = FaceEncoder().eval()
    taken: list[torch.Tensor] = []
    net.project.register_forward_hook(lambda _module, inputs, _output: taken.append(inputs[0].detach()))
    crops = torch.full((3, 3, 160, 160), 120.0)
    crops[1, :, 60:100, 60:100] = torch.rand(3, 40, 40) * 255
    crops[2, :, :, :10] = torch.rand(3, 160, 10) * 255
    net(crops)
    still, inner, outer = (dict(zip(net.parts, row.split(list(net.parts.values())), strict=True)) for row in taken[0])
    assert list(net.parts) == ["inside", "outside", "points", "cues"]
    moved = {
        who: {part: float((row[part] - still[part]).norm()) for part in net.parts} for who, row in (("inner", inner), ("outer", outer))
    }
    assert moved["inner"]["inside"] > 5 * moved["inner"]["outside"]
    assert moved["outer"]["outside"] > 5 * moved["outer"]["inside"]
    assert moved["inner"]["cues"] > 0


def test_a_point_is_where_its_map_is_hot() -> None:
    net = FaceEncoder(EncoderDims(points=2)).eval()
    with torch.no_grad():
        heat = torch.full((1, 2, 20, 20), -50.0)
        heat[0, 0, 3, 17] = heat[0, 1, 10, 4] = 50.0
        net.locate.register_forward_hook(lambda *_: heat)
        points = net(torch.zeros(1, 3, 160, 160)).points
    torch.testing.assert_close(points, torch.tensor([[[17.5 / 20, 3.5 / 20], [4.5 / 20, 10.5 / 20]]]))


def test_what_is_the_same_inside_and_outside_moves_only_the_maps_means() -> None:
    flat = torch.rand(1, 5, 1, 1).expand(1, 5, 20, 20)
    inside, outside = _means(flat)
    torch.testing.assert_close(inside, outside)
    torch.testing.assert_close(_contrast(flat)[:, :5], torch.zeros(1, 5), atol=1e-6, rtol=0)


def test_a_face_from_elsewhere_is_odd_and_its_surroundings_are_not() -> None:
    fingerprint = torch.zeros(1, 2, 20, 20)
    fingerprint[:, 0] = 1.0
    fingerprint[:, :, 8:13, 8:12] = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    odd = _oddness(fingerprint)[0, 0]
    assert odd[8:13, 8:12].min() > 0.99
    assert odd[0].max() < 1e-5


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
