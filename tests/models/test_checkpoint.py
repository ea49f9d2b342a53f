"""What a checkpoint keeps, and each way in which one is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from models.checkpoint import METADATA_KEY, REQUIRED_METADATA, SUMS_NAME, WeightsError, load_checkpoint, save_checkpoint

METADATA: dict[str, Any] = {
    "dims": {"eye": {"width": 3}, "memory": {"inputs": 3}},
    "crop_version": 1,
    "data_digest": "sha256:00ff",
    "commit": "0123abc",
    "created": "2025-01-31T00:00:00Z",
    "version": "0.1.0",
    "note": "more is welcome",
}


def nets(width: int = 3) -> dict[str, nn.Module]:
    return {"eye": nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width)), "memory": nn.Linear(width, 2)}


def saved(directory: Path) -> Path:
    path = directory / "net.safetensors"
    save_checkpoint(path, nets(), METADATA)
    return path


def write_listed(path: Path, data: bytes) -> None:
    """A file with an honest checksum, whatever is in it."""
    path.write_bytes(data)
    path.with_name(SUMS_NAME).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = nets()
    before["eye"](torch.randn(4, 3, 2, 2))
    path = tmp_path / "net.safetensors"
    digest = save_checkpoint(path, before, METADATA)
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata == METADATA
    assert checkpoint.sha256 == digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.tensors.keys() == before.keys()
    after = nets()
    for name, module in after.items():
        checkpoint.restore(module, name)
        for key, tensor in before[name].state_dict().items():
            assert torch.equal(module.state_dict()[key], tensor)


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    net = nets()
    reordered = dict(reversed(METADATA.items()))
    assert save_checkpoint(tmp_path / "a.safetensors", net, METADATA) == save_checkpoint(tmp_path / "b.safetensors", net, reordered)


def test_sums_hold_one_line_a_file_and_keep_the_others(tmp_path: Path) -> None:
    (tmp_path / SUMS_NAME).write_text(f"{'a' * 64} *other.safetensors\n")
    path = saved(tmp_path)
    second = save_checkpoint(path, nets(), METADATA)
    assert (tmp_path / SUMS_NAME).read_text().splitlines() == [f"{second}  net.safetensors", f"{'a' * 64}  other.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [SUMS_NAME, "net.safetensors"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_reads_the_sums(tmp_path: Path) -> None:
    saved(tmp_path)
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS_NAME], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "net.safetensors: OK\n")


def test_modules_that_share_a_tensor_can_be_saved(tmp_path: Path) -> None:
    shared = nn.Linear(2, 2)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, {"one": shared, "two": shared}, METADATA)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.tensors["one"]["weight"], loaded.tensors["two"]["weight"])


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There are no weights at .*none.safetensors. Expected a safetensors file; got nothing"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="Expected a safetensors file; got a directory"):
        load_checkpoint(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc for a file that refuses to be read")
def test_unreadable_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"/proc/self/mem cannot be read. Expected a readable file; got .*Errno"):
        load_checkpoint("/proc/self/mem")


def test_an_unlisted_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / SUMS_NAME).write_text(f"{'a' * 64}  other.safetensors\n\n")
    with pytest.raises(WeightsError, match=r"no checksum .* Expected a line for net.safetensors in SHA256SUMS; got none"):
        load_checkpoint(path)
    (tmp_path / SUMS_NAME).unlink()
    with pytest.raises(WeightsError, match="no checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("where", [0, 100, -1])
def test_one_flipped_bit_is_refused(tmp_path: Path, where: int) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    honest = hashlib.sha256(data).hexdigest()
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"damaged or was exchanged. Expected sha256 {honest}"):
        load_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a pickle in a zip", (10**6).to_bytes(8, "little") + b"{}"])
def test_other_formats_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "net.safetensors"
    write_listed(path, data)
    with pytest.raises(WeightsError, match=r"cannot be read. Expected safetensors; got"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "says nothing about itself. Expected metadata under 'undercurrent'; got none"),
        ({"other": "x"}, "says nothing about itself"),
        ({METADATA_KEY: "{"}, "metadata of .* cannot be read. Expected JSON"),
        ({METADATA_KEY: "[1]"}, "metadata of .* cannot be read. Expected a JSON object; got list"),
        ({METADATA_KEY: "{}"}, r"metadata of .* is incomplete. Expected dims \(dict\), crop_version \(int\), .*; got dims = None"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(tmp_path: Path, header: dict[str, str] | None, said: str) -> None:
    path = tmp_path / "net.safetensors"
    write_listed(path, safetensors.torch.save({"eye.weight": torch.zeros(1)}, header))
    with pytest.raises(WeightsError, match=said):
        load_checkpoint(path)


@pytest.mark.parametrize("key", REQUIRED_METADATA)
def test_each_required_fact_is_required_by_save_and_load(tmp_path: Path, key: str) -> None:
    metadata = {k: v for k, v in METADATA.items() if k != key}
    path = tmp_path / "net.safetensors"
    with pytest.raises(WeightsError, match=rf"incomplete. Expected {key} .*; got {key} = None"):
        save_checkpoint(path, nets(), metadata)
    assert list(tmp_path.iterdir()) == []
    write_listed(path, safetensors.torch.save({"eye.weight": torch.zeros(1)}, {METADATA_KEY: json.dumps(metadata)}))
    with pytest.raises(WeightsError, match=rf"incomplete. Expected {key} .*; got {key} = None"):
        load_checkpoint(path)


def test_a_fact_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Expected crop_version \(int\); got crop_version = '1'"):
        save_checkpoint(tmp_path / "net.safetensors", nets(), {**METADATA, "crop_version": "1"})


def test_a_tensor_of_no_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_listed(path, safetensors.torch.save({"weight": torch.zeros(1)}, {METADATA_KEY: json.dumps(METADATA)}))
    with pytest.raises(WeightsError, match=r"belongs to no module. Expected names like module.key; got 'weight'"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"module name: expected a word without dots, got 'a.b'"):
        save_checkpoint(path, {"a.b": nn.Linear(1, 1)}, METADATA)


def test_a_net_of_another_shape_is_refused_and_left_alone(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved(tmp_path))
    with pytest.raises(WeightsError, match=r"holds no module 'judge'. Expected judge; got eye, memory"):
        checkpoint.restore(nn.Linear(1, 1), "judge")
    with pytest.raises(WeightsError, match=r"not those of this Linear. Expected 1 tensors, missing none; got 2 tensors, unknown bias"):
        checkpoint.restore(nn.Linear(3, 2, bias=False), "memory")
    with pytest.raises(
        WeightsError, match=r"not those of this Conv2d. Expected 2 tensors, missing bias, weight; got 7 tensors, unknown 0.bias"
    ):
        checkpoint.restore(nn.Conv2d(3, 3, 1), "eye")
    wide = nets(width=5)["memory"]
    untouched = {key: tensor.clone() for key, tensor in wide.state_dict().items()}
    with pytest.raises(WeightsError, match=r"memory.weight has another shape than this Linear's. Expected \(2, 5\); got \(2, 3\)"):
        checkpoint.restore(wide, "memory")
    assert all(torch.equal(tensor, untouched[key]) for key, tensor in wide.state_dict().items())


def test_a_refusal_speaks_to_people_and_to_programs(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(tmp_path / "none")
    assert (caught.value.slug, caught.value.expected, caught.value.got) == ("bad-weights", "a safetensors file", "nothing")
    assert str(caught.value).startswith(caught.value.detail)
