"""What the roofline counts, held against hands; and the benchmark of a GPU, walked on a processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.encoder import EncoderDims, FaceEncoder
from models.temporal import TemporalHead
from pipelines.frames import read_frames
from pipelines.inference import Inference
from pipelines.model import Model, load_model
from tests.benchmarks import bench_gpu
from tests.benchmarks.roofline import Peaks, Work, counted, eye_work, measured_peaks, memory_work
from tests.clips import face_frame, regular_pts, write_clip
from tests.pipelines.test_inference import open_to_all
from tests.support import require


@pytest.fixture(scope="module")
def model() -> Model:
    return open_to_all(load_model())


def test_a_convolution_by_hand() -> None:
    net, x = nn.Conv2d(3, 8, 3, padding=1, bias=False).requires_grad_(False), torch.zeros(2, 3, 16, 16)
    moved = 4 * (2 * 3 * 256 + 8 * 3 * 9 + 2 * 8 * 256)
    assert counted(lambda: net(x)) == Work(2 * 2 * 8 * 256 * 27, moved, 1)


def test_views_are_free_and_what_is_expanded_is_read_once() -> None:
    x, one = torch.zeros(4, 6), torch.zeros(1, 6)
    assert counted(lambda: x.t().reshape(2, 3, 4)[0].unsqueeze(1)) == Work(0, 0, 0)
    assert counted(lambda: x + one.expand(4, 6)) == Work(0, 4 * (24 + 6 + 24), 1)


def test_half_precision_moves_half_and_casting_moves_too() -> None:
    x, w = torch.zeros(8, 32), torch.zeros(32, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        work = counted(lambda: x @ w)
    casts = (4 + 2) * (8 * 32 + 32 * 16)
    assert work == Work(2 * 8 * 32 * 16, casts + 2 * (8 * 32 + 32 * 16 + 8 * 16), 3)


def test_the_eye_is_what_its_layers_are() -> None:
    """By hooks on the real net: nothing that the count could have got wrong in the same way."""
    net, seen = FaceEncoder().eval(), [0]

    def note(module: nn.Module, given: tuple[Tensor, ...], came: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        places = came.shape[0] * came.shape[2] * came.shape[3] if came.dim() == 4 else came.shape[0]
        seen[0] += 2 * places * weight.numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        net(torch.zeros(1, 3, 160, 160))
    high_pass = 2 * 3 * 25 * 160 * 160
    one, two, three = (eye_work(EncoderDims(), rows) for rows in (1, 2, 3))
    assert one.flops == seen[0] + high_pass
    assert two.flops == 2 * one.flops and one.operations == three.operations
    assert three.nbytes - two.nbytes == two.nbytes - one.nbytes, "each crop moves the same"
    weights = sum(parameter.numel() * parameter.element_size() for parameter in net.parameters())
    assert 0 < 2 * one.nbytes - two.nbytes < 4 * weights, "what all crops share is the weights, in fp32, cast, and in bf16"


def test_the_memory_by_hand() -> None:
    head = TemporalHead(128, 40)
    one, two = memory_work(head, 1), memory_work(head, 2)
    assert one.flops == 2 * (40 * 128 + 6 * 40 * 40 + 40 * 81 + 40) and two.flops == 2 * one.flops
    a_row = 4 * (128 + 1 + 2 * 2 * 40 + 3 + 40) + 4
    assert two.nbytes - one.nbytes == a_row and one.nbytes == 4 * sum(p.numel() for p in head.parameters()) + a_row


def test_the_roof_is_the_slower_of_both() -> None:
    peaks = Peaks(flops_per_s=100.0, bytes_per_s=10.0)
    assert (peaks.least_s(Work(200, 10, 1)), peaks.least_s(Work(200, 30, 1))) == (2.0, 3.0)


def test_launches_copies_and_waits_are_told_apart() -> None:
    names = ["cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaMemcpyAsync", "aten::add"]
    names += ["cudaStreamSynchronize", "cudaEventSynchronize", "cudaEventRecord"]
    assert bench_gpu.calls(names) == {"kernels": 3, "graphs": 1, "copies": 1, "waits": 2}


def test_the_benchmark_walks_on_a_processor(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "SECONDS", 0.01)
    inference = Inference(model, capacity=4)
    row = bench_gpu.roofline_row(model, 3, Peaks(1e12, 1e10))
    assert row["batch"] == 3 and row["crops_per_s"] > 0 and row["mflop_per_crop"] == pytest.approx(643.6, abs=0.1)
    assert row["of_roofline"] == pytest.approx(max(row["arithmetic_ms"], row["memory_ms"]) / row["ms"], rel=0.05)
    assert bench_gpu.tick(inference, 2) == {"looks": 2, "kernels": 0, "graphs": 0, "copies": 0, "waits": 0}
    assert bench_gpu.streams_of(inference, 2) > 0 and len(inference) == 0
    pts = regular_pts(1.0, 30)
    clip = write_clip(tmp_path / "face.mp4", (face_frame(t / 1000) for t in pts), pts)
    assert bench_gpu.whole_streams(model, clip, read_frames, threads=2) > 0


def test_on_a_gpu_the_peaks_are_those_of_a_gpu() -> None:
    require("gpu")
    peaks = measured_peaks(torch.device("cuda"))
    assert peaks.flops_per_s > 1e12 and peaks.bytes_per_s > 1e10
