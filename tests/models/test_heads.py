"""The promises of the heads for comparison: TemporalHead's interface and its treatment of rows, to 1e-5 instead of bitwise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.attention_head import TransformerHead
from models.heads import CellHead, GRUDHead, GRUHead, Head, HeadState, LSTMHead, log_dt
from models.temporal import TemporalHead, TemporalOutput
from tests.models.contracts import same_bits
from tests.models.test_temporal import make_clip

E, D = 128, 12
HEADS: dict[str, Callable[[], Head]] = {
    "gru": lambda: GRUHead(E, D),
    "gru, rate": lambda: GRUHead(E, D, "rate"),
    "gru, innovation": lambda: GRUHead(E, D, "innovation"),
    "lstm": lambda: LSTMHead(E, D),
    "gru-d": lambda: GRUDHead(E, D),
    "liquid": lambda: CellHead(E, D),
    "cfc": lambda: CellHead(E, D, cell="cfc"),
    "ltc": lambda: CellHead(E, D, cell="ltc"),
    "transformer": lambda: TransformerHead(E, D, heads=2, window=16),
    "transformer, innovation": lambda: TransformerHead(E, D, "innovation", heads=3, window=5),
}
every_head = pytest.mark.parametrize("name", HEADS)


def make_head(name: str) -> Head:
    torch.manual_seed(0)
    return HEADS[name]()


def close(a: TemporalOutput | HeadState, b: TemporalOutput | HeadState) -> None:
    for mine, yours in zip(a, b, strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-5, rtol=1e-5)


def unchanged(a: HeadState, b: HeadState) -> bool:
    return all(same_bits(x, y) for x, y in zip(a, b, strict=True))


def bumpy_clip() -> tuple[Tensor, Tensor, Tensor]:
    """40 moments of 3 rows with a duplicate, an endless gap and a fifth of them masked."""
    x, dt = make_clip(3, 40)
    dt[20], dt[30, 1] = 0.0, math.inf
    return x, dt, torch.rand(40, 3, generator=torch.Generator().manual_seed(4)) > 0.2


@every_head
def test_it_speaks_as_temporal_head_does_and_rebuilds_from_its_dims(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(4, 6)
    outputs, state = head(x, dt)
    theirs, _ = TemporalHead(E, D)(x, dt)
    assert [(part.shape, part.dtype) for part in outputs] == [(part.shape, part.dtype) for part in theirs]
    assert all(bool(part.isfinite().all()) for part in outputs)
    assert bool(state.started.all())
    assert not bool(head.init(4).started.any())
    twin = type(head)(**head.dims)
    twin.load_state_dict(head.state_dict())
    close(twin(x, dt)[0], outputs)


@every_head
def test_a_stream_is_the_clip(name: str) -> None:
    head = make_head(name)
    x, dt, mask = bumpy_clip()
    with torch.inference_mode():
        clip, last = head(x, dt, mask)
        state = head.init(3)
        for t in range(len(x)):
            output, state = head.step(x[t], state, dt[t], mask[t])
            close(output, TemporalOutput(*(part[t] for part in clip)))
        close(state, last)
        _, middle = head(x[:17], dt[:17], mask[:17])
        close(head(x[17:], dt[17:], mask[17:], middle)[0], TemporalOutput(*(part[17:] for part in clip)))


@every_head
def test_a_row_is_the_same_alone_and_in_a_batch(name: str) -> None:
    head = make_head(name)
    x, dt, mask = bumpy_clip()
    outputs, state = head(x, dt, mask)
    for i in range(3):
        alone, alone_state = head(x[:, i : i + 1], dt[:, i : i + 1], mask[:, i : i + 1])
        close(alone, TemporalOutput(*(part[:, i : i + 1] for part in outputs)))
        close(alone_state, state.gather(torch.tensor([i])))


@every_head
def test_a_masked_row_keeps_its_state_and_is_as_if_never_there(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(2, 6)
    _, before = head(x[:3], dt[:3])
    output, after = head.step(x[3], before, dt[3], torch.tensor([False, True]))
    assert unchanged(after.gather(torch.tensor([0])), before.gather(torch.tensor([0])))
    assert not unchanged(after.gather(torch.tensor([1])), before.gather(torch.tensor([1])))
    assert (float(output.logit.detach()[0]), float(output.surprise.detach()[0]), output.judged.tolist()) == (0.0, 1.0, [False, True])
    mask = torch.tensor([[True, True], [True, False], [False, True], [True, True], [True, False], [True, True]])
    masked, state = head(x, dt, mask)
    for i in range(2):
        seen = mask[:, i]
        without, there = head(x[seen, i : i + 1], dt[seen, i : i + 1])
        close(without, TemporalOutput(*(part[seen, i : i + 1] for part in masked)))
        close(there, state.gather(torch.tensor([i])))


@every_head
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_an_embedding_that_is_no_number_touches_nothing(name: str, poison: float) -> None:
    head = make_head(name)
    x, dt = make_clip(3, 5)
    bad = x.clone()
    bad[2, 1, 7] = poison
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[2, 1] = False
    got, state = head(bad, dt)
    want, want_state = head(x, dt, mask)
    close(got, want)
    close(state, want_state)
    torch.autograd.backward(got.logit.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters())


@every_head
@pytest.mark.parametrize("seconds", [0.0, 1e-8, 1 / 30, 60.0, 1e4, math.inf])
def test_the_gradient_is_finite_at_every_dt(name: str, seconds: float) -> None:
    head = make_head(name)
    x, dt = make_clip(3, 6)
    x.requires_grad_()
    dt[3:] = seconds
    dt.requires_grad_()
    outputs, _ = head(x, dt)
    torch.autograd.backward((outputs.logit.square() + outputs.surprise).sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in (*head.parameters(), x, dt))


@every_head
def test_a_minute_is_the_longest_gap(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(2, 4)
    dt[2] = 60.0
    minute, _ = head(x, dt)
    dt[2] = 3600.0
    close(head(x, dt)[0], minute)


@every_head
def test_a_first_observation_has_no_dt(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(2, 4)
    honest, _ = head(x, dt)
    for nonsense in (0.0, -3.0, math.nan):
        dt[0] = nonsense
        close(head(x, dt)[0], honest)


@every_head
@pytest.mark.parametrize(("dt", "said"), [(-0.5, "got -0.5"), (math.nan, "got NaN")])
def test_a_started_row_refuses_time_that_runs_backwards(name: str, dt: float, said: str) -> None:
    head = make_head(name)
    x, times = make_clip(3, 2)
    _, state = head.step(x[0], head.init(3), times[0])
    times[1, 2] = dt
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        head.step(x[1], state, times[1])


@every_head
@pytest.mark.parametrize(
    ("x", "dt", "rows", "said"),
    [
        ((2, 3, 64), (2, 3, 1), 3, r"x: expected shape \(T, N, E\) = \(2, 3, 128\), got \(2, 3, 64\)"),
        ((2, 3, 128), (2, 3), 3, r"dt: expected shape \(T, N, 1\) in seconds = \(2, 3, 1\), got \(2, 3\)"),
        ((2, 3, 128), (2, 3, 1), 4, r"state.front: expected shape \(N, F\) = \(3, "),
    ],
)
def test_wrong_shapes_are_named(name: str, x: tuple[int, ...], dt: tuple[int, ...], rows: int, said: str) -> None:
    head = make_head(name)
    with pytest.raises(ValueError, match=said):
        head(torch.zeros(x), torch.zeros(dt), None, head.init(rows))


@every_head
def test_nothing_judged_is_a_defined_answer(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(4, 5)
    assert head(x[:0], dt[:0])[0].logit.shape == (0, 4)
    assert head(x[:, :0], dt[:, :0])[0].logit.shape == (5, 0)
    unseen, state = head(x, dt, torch.zeros(5, 4, dtype=torch.bool))
    assert unchanged(state, head.init(4))
    assert torch.equal(unseen.logit, torch.zeros(5, 4))


@every_head
def test_states_are_gathered_and_scattered_by_row(name: str) -> None:
    head = make_head(name)
    x, dt = make_clip(4, 3)
    _, slots = head(x, dt)
    rows, others = torch.tensor([3, 1]), torch.tensor([0, 2])
    _, moved = head.step(x[0, rows], slots.gather(rows), torch.full((2, 1), 0.1))
    after = slots.scatter(rows, moved)
    assert unchanged(after.gather(rows), moved)
    assert unchanged(after.gather(others), slots.gather(others))


@every_head
def test_rates_learn_slowly_and_every_parameter_learns(name: str) -> None:
    head = make_head(name)
    x, dt, mask = bumpy_clip()
    torch.autograd.backward(head(x, dt, mask)[0].logit.square().sum())
    still = [key for key, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert still == [], "no gradient reaches them"
    rest, rates = head.parameter_groups(lr=4e-3, weight_decay=1e-2)
    assert (rest["lr"], rest["weight_decay"]) == (4e-3, 1e-2)
    assert (rates["lr"], rates["weight_decay"]) == (pytest.approx(1.2e-3), 0.0)
    assert len(rest["params"]) + len(rates["params"]) == len(list(head.parameters()))
    torch.optim.AdamW([rest, rates])


def test_the_innovation_is_temporal_heads_own() -> None:
    theirs = TemporalHead(E, D)
    head = GRUHead(E, D, "innovation")
    shared = {name: value for name, value in theirs.state_dict().items() if name.startswith(("embed", "memory", "kappa"))}
    head.front.load_state_dict(shared)
    x, dt, mask = bumpy_clip()
    got, want = head(x, dt, mask)[0], theirs(x, dt, mask)[0]
    torch.testing.assert_close(got.surprise, want.surprise)
    torch.testing.assert_close(got.information, want.information)
    torch.testing.assert_close(got.tau[want.judged], want.tau[want.judged])


def test_a_difference_is_to_the_last_usable_embedding() -> None:
    x, dt = make_clip(2, 5)
    mask = torch.ones(5, 2, dtype=torch.bool)
    mask[2, 0] = mask[0, 1] = False
    seen: list[Tensor] = []
    for front in ("difference", "rate"):
        head = GRUHead(E, D, front)
        head.embed.register_forward_pre_hook(lambda _module, features: seen.append(features[0][..., E : 2 * E]))
        head(x, dt, mask)
    plain, per_root = seen
    torch.testing.assert_close(plain[3, 0], x[3, 0] - x[1, 0])
    torch.testing.assert_close(plain[4, 1], x[4, 1] - x[3, 1])
    torch.testing.assert_close(per_root[4], (x[4] - x[3]) / (dt[4] + 1e-3).sqrt())
    assert not bool(plain[0].any()) and not bool(plain[1, 1].any())


def test_gru_d_forgets_with_the_seconds() -> None:
    """Che et al. 2018, equation 3 with the input left out of the decay: one update from a faded state is torch's own."""
    head = GRUDHead(E, D)
    u, h, dt = torch.randn(2, D + 1), torch.randn(2, D), torch.tensor([[0.0], [0.5]])
    faded = h * torch.exp(-torch.nn.functional.softplus(head.kappa) * dt)
    torch.testing.assert_close(head.advance(u, h, dt), head.cell(u, faded))
    assert torch.equal(faded[0], h[0])
    taus = 1 / torch.nn.functional.softplus(head.kappa.detach())
    assert 0.03 <= float(taus.min()) < 0.1 and 4 < float(taus.max()) <= 10.0


def test_a_transformer_sees_its_window_and_seconds_between() -> None:
    torch.manual_seed(1)
    head = TransformerHead(E, D, blocks=1, heads=2, window=4)
    x, dt = make_clip(1, 9)
    whole, state = head(x, dt)
    changed = x.clone()
    changed[:3] = make_clip(1, 3, seed=9)[0]
    other, other_state = head(changed, dt)
    # x[3] still shows in the difference at 3; with one block the last moment sees 5 to 8
    torch.testing.assert_close(other.logit[8], whole.logit[8])
    assert not torch.allclose(other.logit[5], whole.logit[5])
    close(other_state, state)
    slower = dt.clone()
    slower[7] += 0.3
    assert not torch.allclose(head(x, slower)[0].logit[8], whole.logit[8])
    assert torch.equal(head(x, slower)[0].logit[:7], whole.logit[:7])
    ages = state.memory[0, :, 1]
    torch.testing.assert_close(ages, torch.stack([dt[6:, 0, 0].sum(), dt[7:, 0, 0].sum(), dt[8, 0, 0], torch.tensor(0.0)]))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="GRUHead: expected front difference, rate or innovation, got speed"):
        GRUHead(front="speed")
    with pytest.raises(ValueError, match=r"expected a cell among liquid.*; got 'solid'"):
        CellHead(cell="solid")
    with pytest.raises(ValueError, match="expected units to be a multiple of 2 x 4 heads, got 12"):
        TransformerHead(units=12)


def test_log_dt_is_0_at_25_fps_and_on_a_first_observation() -> None:
    dt, first = torch.tensor([0.04, 1e4, 0.0, 60.0, 1e4]), torch.tensor([False, True, False, False, False])
    got = log_dt(dt, first)
    assert got[:2].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert float(got[2]) == pytest.approx(math.log(1 / 41), abs=1e-5)
    assert got[3] == got[4]
