"""The promises of TemporalHead: the same contracts as the cell's, now with first observations, surprise and a logit."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, layer_norm, linear, normalize, silu

from models.checkpoint import Checkpoint, WeightsError
from models.liquid import LiquidCell
from models.temporal import TemporalHead, TemporalOutput, TemporalState, clip_logit
from tests.benchmarks.seconds_task import make_clips
from tests.golden.renew import HERE, liven
from tests.models.contracts import same_bits

E, D = 128, 40


def make_head(seed: int = 0) -> TemporalHead:
    torch.manual_seed(seed)
    head = TemporalHead(E, D)
    with torch.no_grad():
        for cell in (head.memory, evidence(head)):
            liven(cell.rate, seed + 1)
    return head


def evidence(head: TemporalHead) -> LiquidCell:
    assert isinstance(head.evidence, LiquidCell)
    return head.evidence


def make_clip(rows: int, steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Faces that wander: unit embeddings (steps, rows, E) and irregular dt (steps, rows, 1), the first of them inf."""
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn((1, rows, E), generator=generator) + 0.1 * torch.randn((steps, rows, E), generator=generator).cumsum(0)
    dt = 0.2 * torch.rand((steps, rows, 1), generator=generator) ** 3
    dt[:1] = math.inf
    return normalize(walk, dim=-1), dt


def all_same_bits(a: TemporalOutput | TemporalState, b: TemporalOutput | TemporalState) -> bool:
    return all(same_bits(x, y) for x, y in zip(a, b, strict=True))


def row(outputs: TemporalOutput, i: int) -> TemporalOutput:
    return TemporalOutput(*(part[:, i : i + 1] for part in outputs))


def test_it_has_18641_parameters_and_rebuilds_from_its_dims() -> None:
    head = TemporalHead()
    assert sum(p.numel() for p in head.parameters()) == 18_641
    assert head.dims == {"inputs": 128, "units": 40, "cell": "liquid"}
    twin = TemporalHead(**head.dims)
    twin.load_state_dict(head.state_dict())
    assert sum(p.numel() for p in TemporalHead(128, 32).parameters()) == 12_865


def test_it_computes_the_published_equations() -> None:
    """Written out once more for one track, with torch's own layers in fp64 and exp where the head uses expm1."""
    head = make_head().double()
    x, dt = make_clip(1, 12)
    x, dt = x.double(), dt.double()
    got, _ = head(x, dt)
    ev = evidence(head)
    assert ev.target is not None
    h = k = torch.zeros(D, dtype=torch.float64)
    for t in range(12):
        seconds = 1e4 if t == 0 else float(dt[t])
        u = linear(x[t, 0], head.embed.weight, head.embed.bias)
        r = torch.exp(head.memory.kappa + 2 * torch.tanh(linear(u, head.memory.rate.weight, head.memory.rate.bias)))
        e = u - h
        h = u + (h - u) * torch.exp(-seconds * r)
        v = 1 - torch.exp(-2 * seconds * head.kappa_q.exp()) + head.kappa_sigma.exp() ** 2
        nu = torch.ones(D, dtype=torch.float64) if t == 0 else e**2 / v
        features = torch.cat((torch.log1p(nu), nu.clamp(max=8) / 4, torch.log(nu.mean() + 1e-3).reshape(1)))
        z = linear(features, head.innovation.weight, head.innovation.bias)
        n = layer_norm(z, (D,), head.norm.weight, head.norm.bias)
        a = linear(n, ev.target.weight, ev.target.bias)
        k = a + (k - a) * torch.exp(-seconds * torch.exp(ev.kappa + 2 * torch.tanh(linear(n, ev.rate.weight, ev.rate.bias))))
        y = z + linear(k * silu(linear(n, head.gate.weight, head.gate.bias)), head.merge.weight, head.merge.bias)
        y = layer_norm(y, (D,), head.readout_norm.weight, head.readout_norm.bias)
        y = gelu(linear(y, head.readout_hidden.weight, head.readout_hidden.bias))
        torch.testing.assert_close(got.logit[t], linear(y, head.readout.weight, head.readout.bias), atol=1e-9, rtol=0)
        torch.testing.assert_close(got.surprise[t, 0], nu.mean(), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(got.tau[t, 0], 1 / r, atol=1e-9, rtol=1e-9)


def test_01_a_duplicate_is_judged_but_not_remembered() -> None:
    head = make_head()
    x, dt = make_clip(4, 6)
    _, before = head(x[:5], dt[:5])
    output, after = head.step(x[5], before, torch.zeros(4, 1))
    assert all_same_bits(after, before)
    assert bool(output.judged.all())
    assert bool(output.logit.isfinite().all())
    assert bool((output.surprise > 0).all())


@pytest.mark.parametrize("dt", [0.0, 1 / 30, math.inf, math.nan, -1.0])
def test_02_a_first_observation_fixes_the_memory_whatever_its_dt(dt: float) -> None:
    head = make_head()
    x, _ = make_clip(4, 1)
    output, state = head.step(x[0], head.init(4), torch.full((4, 1), dt))
    honest, honest_state = head.step(x[0], head.init(4), torch.full((4, 1), math.inf))
    assert same_bits(state.h, head.embed(x[0]))
    assert all_same_bits(output, honest)
    assert all_same_bits(state, honest_state)
    assert torch.equal(output.surprise, torch.ones(4))
    assert bool(state.started.all())


def test_02_rows_start_each_at_their_own_first_face() -> None:
    head = make_head()
    x, dt = make_clip(2, 6)
    mask = torch.ones(6, 2, dtype=torch.bool)
    mask[:3, 1] = False
    late, state = head(x, dt, mask)
    alone, alone_state = head(x[3:, 1:], dt[3:, 1:])
    assert all_same_bits(TemporalOutput(*(part[3:] for part in row(late, 1))), alone)
    assert all_same_bits(state.gather(torch.tensor([1])), alone_state)


@pytest.mark.parametrize("dt", [0.0, 1e-30, 60.0, 1e4, 1e30, math.inf])
def test_03_outputs_and_gradients_are_finite_at_every_dt(dt: float) -> None:
    head = make_head()
    x, times = make_clip(4, 4)
    times[2] = dt
    outputs, state = head(x, times)
    assert all(bool(part.isfinite().all()) for part in (*outputs[:3], *state[:2]))
    torch.autograd.backward(outputs.logit.square().sum() + outputs.surprise.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters())


def test_03_a_started_row_counts_at_most_a_minute() -> None:
    head = make_head()
    x, dt = make_clip(2, 4)
    _, state = head(x[:3], dt[:3])
    minute = head.step(x[3], state, torch.full((2, 1), 60.0))
    for longer in (61.0, math.inf):
        output, after = head.step(x[3], state, torch.full((2, 1), longer))
        assert all_same_bits(output, minute[0])
        assert all_same_bits(after, minute[1])
    assert not same_bits(head.step(x[3], state, torch.full((2, 1), 59.0))[1].k, minute[1].k)


def test_03_every_parameter_learns() -> None:
    head = make_head()
    outputs, _ = head(*make_clip(4, 8))
    torch.autograd.backward(outputs.logit.square().sum())
    assert [name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize(("dt", "said"), [(-0.5, "got -0.5"), (math.nan, "got NaN")])
def test_04_a_started_row_refuses_time_that_runs_backwards(dt: float, said: str) -> None:
    head = make_head()
    x, times = make_clip(3, 2)
    _, state = head.step(x[0], head.init(3), times[0])
    times[1, 2] = dt
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        head.step(x[1], state, times[1])


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_05_an_embedding_that_is_no_number_touches_no_other_row(poison: float) -> None:
    head = make_head()
    x, dt = make_clip(5, 6)
    clean, clean_state = head(x, dt)
    bad = x.clone()
    bad[3, 2, 7] = poison
    got, state = head(bad, dt)
    for i in (0, 1, 3, 4):
        assert all_same_bits(row(got, i), row(clean, i))
    others = torch.tensor([0, 1, 3, 4])
    assert all_same_bits(state.gather(others), clean_state.gather(others))
    assert got.judged[:, 2].tolist() == [True, True, True, False, True, True]
    assert float(got.logit[3, 2].detach()) == 0.0
    assert float(got.surprise[3, 2].detach()) == 1.0
    torch.autograd.backward(got.logit.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters())


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 33, D, 64])
def test_06_a_row_has_the_same_bits_alone_and_in_a_batch(rows: int) -> None:
    """rows == D included, where an implementation that mixes rows and units raises no error."""
    head = make_head()
    x, dt = make_clip(rows, 5)
    outputs, state = head(x, dt)
    for i in range(rows):
        alone, alone_state = head(x[:, i : i + 1], dt[:, i : i + 1])
        assert all_same_bits(row(outputs, i), alone)
        assert all_same_bits(state.gather(torch.tensor([i])), alone_state)


def test_07_a_face_unseen_for_a_while_returns_with_its_whole_dt() -> None:
    head = make_head()
    x, dt = make_clip(1, 5)
    mask = torch.tensor([[True], [True], [False], [False], [True]])
    late = dt.clone()
    late[4] += dt[2] + dt[3]
    masked, state = head(x, late, mask)
    seen = [0, 1, 4]
    unseen, unseen_state = head(x[seen], late[seen])
    assert all_same_bits(state, unseen_state)
    assert all_same_bits(TemporalOutput(*(part[seen] for part in masked)), unseen)
    assert masked.judged[:, 0].tolist() == mask[:, 0].tolist()


def test_08_an_unchanged_face_forgets_the_same_in_one_gap_or_two() -> None:
    """The flow holds for the memory; the logit may differ, for two looks are more evidence than one."""
    head = make_head()
    x, dt = make_clip(3, 4)
    _, state = head(x[:3], dt[:3])
    a, b = torch.full((3, 1), 0.07), torch.full((3, 1), 0.4)
    _, once = head.step(x[3], state, a + b)
    _, halfway = head.step(x[3], state, a)
    _, twice = head.step(x[3], halfway, b)
    torch.testing.assert_close(twice.h, once.h, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_09_a_stream_is_the_clip(mode: type[torch.inference_mode]) -> None:
    head = make_head()
    x, dt = make_clip(3, 60)
    dt[20], dt[30, 1] = 0.0, math.inf
    mask = torch.rand(60, 3, generator=torch.Generator().manual_seed(4)) > 0.2
    with mode():
        clip, last = head(x, dt, mask)
        state = head.init(3)
        for t in range(60):
            output, state = head.step(x[t], state, dt[t], mask[t])
            assert all_same_bits(output, TemporalOutput(*(part[t] for part in clip)))
        assert all_same_bits(state, last)
        _, middle = head(x[:25], dt[:25], mask[:25])
        resumed, resumed_state = head(x[25:], dt[25:], mask[25:], middle)
        assert all_same_bits(resumed, TemporalOutput(*(part[25:] for part in clip)))
        assert all_same_bits(resumed_state, last)


def test_10_the_order_of_the_streams_changes_nothing() -> None:
    head = make_head()
    x, dt = make_clip(17, 6)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    outputs, state = head(x, dt)
    shuffled, shuffled_state = head(x[:, order], dt[:, order])
    assert all_same_bits(shuffled, TemporalOutput(*(part[:, order] for part in outputs)))
    assert all_same_bits(shuffled_state, state.gather(order))


def test_11_the_unit_of_time_is_a_convention() -> None:
    """In kiloseconds, because the two ceilings on dt are in seconds and finer units would meet them."""
    head = make_head()
    x, dt = make_clip(4, 20)
    seconds, _ = head(x, dt)
    with torch.no_grad():
        for kappa in (head.memory.kappa, evidence(head).kappa, head.kappa_q):
            kappa.add_(math.log(1000.0))
    kiloseconds, _ = head(x, dt / 1000.0)
    torch.testing.assert_close(kiloseconds.logit, seconds.logit, atol=1e-5, rtol=0)
    torch.testing.assert_close(kiloseconds.surprise, seconds.surprise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(1000.0 * kiloseconds.tau, seconds.tau, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", ["liquid", "resonator", "ltc", "cfc"])
def test_12_autocast_changes_no_bit(cell: str) -> None:
    torch.manual_seed(0)
    head = TemporalHead(E, D, cell)
    liven(head.evidence, 3)
    x, dt = make_clip(4, 10)
    plain, plain_state = head(x, dt)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, state = head(x, dt.double())
        torch.autograd.backward(cast.logit.sum())
    assert all_same_bits(state, plain_state)
    assert same_bits(cast.logit, plain.logit)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in head.evidence.parameters())


def test_13_nothing_judged_is_a_defined_answer() -> None:
    head = make_head()
    x, dt = make_clip(4, 5)
    empty, state = head(x[:0], dt[:0])
    assert empty.logit.shape == (0, 4)
    assert not bool(state.started.any())
    assert torch.equal(clip_logit(empty.logit, empty.judged), torch.zeros(4))
    unseen, unseen_state = head(x, dt, torch.zeros(5, 4, dtype=torch.bool))
    assert all_same_bits(unseen_state, head.init(4))
    assert torch.equal(clip_logit(unseen.logit, unseen.judged), torch.zeros(4))
    nobody, _ = head(x[:, :0], dt[:, :0])
    assert nobody.logit.shape == (5, 0)
    one, _ = head(x[:1], dt[:1])
    assert torch.equal(clip_logit(one.logit), one.logit[0])


def test_14_ten_minutes_at_60_fps_do_not_drift_from_fp64() -> None:
    """A 144th of the 24 hours that are promised, in chunks of one minute with the state carried over."""
    head = make_head()
    exact_head = copy.deepcopy(head).double()
    state, exact_state = head.init(1), exact_head.init(1)
    dt = torch.full((3600, 1, 1), 1 / 60)
    worst = 0.0
    with torch.inference_mode():
        for minute in range(10):
            x, _ = make_clip(1, 3600, seed=minute)
            outputs, state = head(x, dt, None, state)
            exact, exact_state = exact_head(x.double(), dt.double(), None, exact_state)
            worst = max(worst, float((outputs.logit - exact.logit).abs().max()), float((state.k - exact_state.k).abs().max()))
            worst = max(worst, float((state.h - exact_state.h).abs().max()))
    assert worst < 1e-4


def test_the_same_change_surprises_less_the_more_time_it_had() -> None:
    head = make_head()
    x, dt = make_clip(1, 2, seed=5)
    _, state = head.step(x[0], head.init(1), dt[0])
    surprises = [float(head.step(-x[0], state, torch.full((1, 1), s))[0].surprise.detach()) for s in (0.0, 1 / 60, 1 / 30, 0.2, 1.0, 5.0)]
    assert surprises == sorted(surprises, reverse=True)
    assert surprises[0] > 2 * surprises[-1]


def test_states_are_gathered_and_scattered_by_row() -> None:
    head = make_head()
    x, dt = make_clip(4, 3)
    _, slots = head(x, dt)
    rows = torch.tensor([3, 1])
    part = slots.gather(rows)
    assert same_bits(part.h, torch.stack((slots.h[3], slots.h[1])))
    _, moved = head.step(x[0, rows], part, torch.full((2, 1), 0.1))
    after = slots.scatter(rows, moved)
    assert all_same_bits(after.gather(rows), moved)
    untouched = torch.tensor([0, 2])
    assert all_same_bits(after.gather(untouched), slots.gather(untouched))
    assert not same_bits(after.h, slots.h)


def test_clip_logit_is_the_mean_of_what_was_judged() -> None:
    logits = torch.tensor([[1.0, 5.0], [3.0, math.nan], [8.0, 7.0]])
    mask = torch.tensor([[True, True], [True, False], [False, True]])
    assert torch.equal(clip_logit(logits, mask), torch.tensor([2.0, 6.0]))
    with pytest.raises(ValueError, match=r"mask: expected shape .* = \(3, 2\), got \(3,\)"):
        clip_logit(logits, mask[:, 0])


def test_a_moment_informs_the_more_the_longer_it_waited() -> None:
    head = make_head()
    x, dt = make_clip(1, 2, seed=5)
    first, state = head.step(x[0], head.init(1), dt[0])
    assert float(first.information.detach()) == 0.0, "a first observation compares with nothing"
    told = [
        float(head.step(x[1], state, torch.full((1, 1), s))[0].information.detach()) for s in (0.0, 0.005, 1 / 60, 1 / 30, 0.2, 1.0, 60.0)
    ]
    assert told[0] == 0.0
    assert told == sorted(told)
    assert len(set(told)) == len(told)
    assert told[-1] == pytest.approx(float((1 / (1 + (2 * head.kappa_sigma.detach()).exp())).mean()), abs=1e-3)
    unseen, _ = head.step(x[1], state, torch.full((1, 1), 0.1), torch.tensor([False]))
    assert float(unseen.information.detach()) == 0.0


@pytest.mark.parametrize("cell", ["resonator", "ltc", "cfc"])
def test_other_cells_keep_the_head_s_promises(cell: str) -> None:
    torch.manual_seed(0)
    head = TemporalHead(E, D, cell)
    liven(head.evidence, 3)
    x, dt = make_clip(5, 12)
    dt[6] = 0.0
    mask = torch.rand(12, 5, generator=torch.Generator().manual_seed(4)) > 0.2
    clip, last = head(x, dt, mask)
    state = head.init(5)
    for t in range(12):
        output, state = head.step(x[t], state, dt[t], mask[t])
        assert all_same_bits(output, TemporalOutput(*(part[t] for part in clip)))
    assert all_same_bits(state, last)
    alone, _ = head(x[:, 2:3], dt[:, 2:3], mask[:, 2:3])
    assert all_same_bits(alone, row(clip, 2))
    torch.autograd.backward(clip.logit.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.evidence.parameters())
    twin = TemporalHead(**head.dims)
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin(x, dt, mask)[0].logit, clip.logit)


@pytest.mark.parametrize(
    "dims",
    [
        {},
        {"inputs": 128},
        {"inputs": 128, "units": 0},
        {"inputs": 128, "units": 10**9},
        {"inputs": "128", "units": 40},
        {"inputs": 128, "units": 40, "cell": "gru"},
        {"inputs": 128, "units": 40, "cell": ["liquid"]},
        {"inputs": 128, "units": 40, "layers": 2},
    ],
)
def test_a_checkpoint_of_other_dims_is_refused(dims: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="Expected inputs and units from 1 to 1024, and a cell among liquid, resonator, ltc, cfc; got"):
        TemporalHead.from_metadata(dims)


def test_a_checkpoint_may_be_older_than_cell_and_must_fit() -> None:
    assert TemporalHead.from_metadata({"inputs": 6, "units": 4}).dims == {"inputs": 6, "units": 4, "cell": "liquid"}
    saved = Checkpoint({"temporal": TemporalHead(6, 4).state_dict()}, {}, "")
    with pytest.raises(WeightsError, match="has another shape than this TemporalHead's"):
        saved.restore(TemporalHead(6, 5), "temporal")
    with pytest.raises(WeightsError, match="are not those of this TemporalHead"):
        saved.restore(TemporalHead(6, 4, "cfc"), "temporal")


def test_an_unknown_cell_is_named() -> None:
    with pytest.raises(ValueError, match="expected a cell among liquid, resonator, ltc, cfc; got 'gru'"):
        TemporalHead(cell="gru")


@pytest.mark.parametrize("dt", [0.0, 1e-8, 1 / 30, 60.0, 1e4, math.inf])
def test_gradients_are_bounded_at_every_dt(dt: float) -> None:
    head = make_head()
    x, times = make_clip(4, 12)
    times[1:] = dt
    x.requires_grad_()
    outputs, _ = head(x, times)
    torch.autograd.backward(outputs.logit.square().sum())
    grads = [x.grad, *(p.grad for p in head.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) and float(g.abs().max()) < 100.0 for g in grads)  # 40 at dt = 0, 2 at 60 s


@pytest.mark.parametrize("cell", ["liquid", "resonator", "ltc", "cfc"])
def test_ten_seeds_train_without_a_nan(cell: str) -> None:
    """Bursts, drops, duplicates, an hour's gap, lost faces, and a learning rate beyond what anybody would choose."""
    for seed in range(10):
        torch.manual_seed(seed)
        head = TemporalHead(16, 8, cell)
        optimiser = torch.optim.AdamW(head.parameter_groups(lr=3e-2, weight_decay=1e-2))
        for step in range(8):
            x, dt, fake = make_clips(8, "wide", 100 * seed + step)
            dt[5], dt[9, 3], dt[11, 2] = 0.0, 3600.0, math.inf
            mask = torch.rand(dt.shape[:2], generator=torch.Generator().manual_seed(seed)) > 0.1
            outputs, _ = head(x, dt, mask)
            loss = binary_cross_entropy_with_logits(clip_logit(outputs.logit, mask), fake)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            assert bool(loss.isfinite())
        assert all(bool(p.isfinite().all()) for p in head.parameters())


def test_rates_learn_slowly_and_without_decay() -> None:
    head = make_head()
    rest, rates = head.parameter_groups(lr=4e-3, weight_decay=1e-2)
    assert (rest["lr"], rest["weight_decay"]) == (4e-3, 1e-2)
    assert (rates["lr"], rates["weight_decay"]) == (pytest.approx(1.2e-3), 0.0)
    slow = {id(p) for p in rates["params"]}
    assert {name for name, p in head.named_parameters() if id(p) in slow} == {
        "memory.kappa",
        "evidence.kappa",
        "kappa_q",
        "kappa_sigma",
    }
    torch.optim.AdamW([rest, rates])
    assert len(rest["params"]) + len(rates["params"]) == len(list(head.parameters()))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (((3, 39), (3, 40), (3, 1)), r"state.h: expected shape \(N, D\) = \(3, 40\), got \(3, 39\)"),
        (((3, 40), (1, 40), (3, 1)), r"state.k: expected shape \(N, D\) = \(3, 40\), got \(1, 40\)"),
        (((3, 40), (3, 40), (3,)), r"state.started: expected shape \(N, 1\) = \(3, 1\), got \(3,\)"),
    ],
)
@pytest.mark.parametrize("cell", ["liquid", "ltc", "cfc"])
def test_every_part_of_a_state_is_checked(cell: str, state: tuple[tuple[int, ...], ...], said: str) -> None:
    h, k, started = (torch.zeros(shape) for shape in state)
    x, dt = make_clip(3, 2)
    with pytest.raises(ValueError, match=said):
        TemporalHead(E, D, cell)(x, dt, None, TemporalState(h, k, started.bool()))


def test_a_state_of_another_dtype_is_taken_in_the_head_s_own() -> None:
    head = make_head()
    x, dt = make_clip(3, 4)
    _, state = head(x[:2], dt[:2])
    _, after = head(x[2:], dt[2:], None, TemporalState(state.h.double(), state.k.double(), state.started))
    assert all_same_bits(after, head(x[2:], dt[2:], None, state)[1])


@pytest.mark.parametrize(
    ("x", "dt", "rows", "said"),
    [
        ((2, 3, 64), (2, 3, 1), 3, r"x: expected shape \(T, N, E\) = \(2, 3, 128\), got \(2, 3, 64\)"),
        ((2, 3, 128), (2, 3), 3, r"dt: expected shape \(T, N, 1\) in seconds = \(2, 3, 1\), got \(2, 3\)"),
        ((2, 3, 128), (2, 3, 1), 4, r"state.h: expected shape \(N, D\) = \(3, 40\), got \(4, 40\)"),
    ],
)
def test_wrong_shapes_are_named(x: tuple[int, ...], dt: tuple[int, ...], rows: int, said: str) -> None:
    head = TemporalHead()
    with pytest.raises(ValueError, match=said):
        head(torch.zeros(x), torch.zeros(dt), None, head.init(rows))


def test_golden() -> None:
    golden = load_file(HERE / "temporal_head.safetensors")
    head = TemporalHead(6, 4)
    head.load_state_dict({k.removeprefix("head."): v for k, v in golden.items() if k.startswith("head.")})
    outputs, state = head(golden["x"], golden["dt"], golden["mask"])
    for name, got in {**outputs._asdict(), "h": state.h, "k": state.k}.items():
        torch.testing.assert_close(got, golden[name], atol=1e-6, rtol=1e-6)
