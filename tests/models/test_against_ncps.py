"""Our LTC and CfC beside ncps 1.0.1: equal where ncps is right, and where it is not, what it does and what we do instead."""

from __future__ import annotations

from typing import Any

import ncps.torch as theirs
import pytest
import torch
from ncps.wirings import NCP, AutoNCP, FullyConnected, Wiring
from torch import Tensor, nn

from models.cfc import Activation, CfCCell, Mode
from models.ltc import LTCCell
from models.wiring import NCPWiring
from tests.models.test_ltc import jacobians, make_rows

INPUTS, UNITS = 6, 8


def copy_ltc(theirs: Any, **options: Any) -> LTCCell:  # noqa: ANN401 - ncps ships no types
    """Our cell with the synapses and weights of an ncps LTCCell, explicit constraints or not; a unit input mapping is their default."""
    wiring = NCPWiring.from_dense(theirs._wiring.adjacency_matrix, theirs._wiring.sensory_adjacency_matrix)
    ours = LTCCell(wiring.inputs, wiring.units, wiring=wiring, **options)
    positive = theirs.make_positive_fn
    with torch.no_grad():
        for bank, prefix in ((ours.sensory, "sensory_"), (ours.recurrent, "")):
            column = bank.first + torch.arange(bank.pre.shape[1]).expand_as(bank.pre)
            for name, ours_of in (("sigma", bank.sigma), ("mu", bank.mu), ("erev", bank.erev)):
                ours_of.copy_(getattr(theirs, prefix + name)[bank.pre, column])
            bank.log_w.copy_(positive(getattr(theirs, prefix + "w"))[bank.pre, column].log())
        ours.vleak.copy_(theirs.vleak)
        ours.log_leak.copy_(positive(theirs.gleak).log())
        ours.log_cm.copy_(positive(theirs.cm).log())
    return ours


def copy_cfc(theirs: Any, ours: CfCCell) -> CfCCell:  # noqa: ANN401 - ncps ships no types
    """Our cell with the weights of an ncps CfCCell."""
    linear = [] if theirs.backbone is None else [layer for layer in theirs.backbone if isinstance(layer, nn.Linear)]
    heads = [theirs.ff1] if ours.mode == "pure" else [theirs.ff1, theirs.ff2, theirs.time_a, theirs.time_b]
    with torch.no_grad():
        for to, source in zip(ours.backbone, linear, strict=True):
            to.load_state_dict(source.state_dict())
        ours.heads.weight.copy_(torch.cat([head.weight for head in heads]))
        ours.heads.bias.copy_(torch.cat([head.bias for head in heads]))
        if ours.mode == "pure":
            ours.w_tau.copy_(theirs.w_tau[0])
            ours.asymptote.copy_(theirs.A[0])
    return ours


def roll(cell: Any, u: Tensor, dt: Tensor, h: Tensor) -> Tensor:  # noqa: ANN401
    """Every state of an ncps cell, which takes a (N, 1) dt rightly; only its RNN classes squeeze it."""
    states = []
    for now, seconds in zip(u, dt, strict=True):
        _, h = cell(now, h, seconds)
        states.append(h)
    return torch.stack(states)


def built(wiring: Wiring, inputs: int = INPUTS) -> Wiring:
    wiring.build(inputs)
    return wiring


@pytest.mark.parametrize("rows", [1, 5, UNITS])
@pytest.mark.parametrize("wiring", [FullyConnected(UNITS), AutoNCP(12, 3, 0.5), NCP(6, 5, 2, 3, 2, 4, 3)], ids=["dense", "auto", "ncp"])
def test_ltc_is_theirs_at_their_weights(wiring: Wiring, rows: int) -> None:
    cell = theirs.LTCCell(built(wiring))
    ours = copy_ltc(cell)
    u, dt = make_rows(rows, 20)
    h = 2 * torch.rand(rows, wiring.units) - 1
    for seconds in (dt + 1e-3, torch.full_like(dt, 0.04), 300 * dt + 1e-3):
        torch.testing.assert_close(ours(u, seconds, h)[0], roll(cell, u, seconds, h), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("activation", ["lecun_tanh", "tanh", "relu", "silu", "gelu"])
@pytest.mark.parametrize("mode", ["default", "pure", "no_gate"])
def test_cfc_is_theirs_at_their_weights(mode: Mode, activation: Activation, layers: int) -> None:
    cell = theirs.CfCCell(INPUTS, UNITS, mode, activation, 20, layers)
    ours = copy_cfc(cell, CfCCell(INPUTS, UNITS, mode=mode, backbone_units=20, backbone_layers=layers, activation=activation))
    u, dt = make_rows(5, 20)
    h = 2 * torch.rand(5, UNITS) - 1
    for seconds in (dt + 1e-3, torch.full_like(dt, 0.04), 300 * dt + 1e-3):
        torch.testing.assert_close(ours(u, seconds, h)[0], roll(cell, u, seconds, h), atol=1e-5, rtol=0)


def rnns() -> list[Any]:
    return [theirs.LTC(INPUTS, UNITS), theirs.CfC(INPUTS, UNITS)]


@pytest.mark.parametrize("which", [0, 1], ids=["ltc", "cfc"])
def test_a_dt_per_row_raises_in_theirs_and_counts_in_ours(which: int) -> None:
    rnn = rnns()[which]
    u, dt = make_rows(5, 1)
    dt = dt + 0.01
    with pytest.raises(
        RuntimeError, match=r"size of tensor a \(8\) must match the size of tensor b \(5\)"
    ):  # B != H, mlech26l/ncps issue 81
        rnn(u.transpose(0, 1), torch.zeros(5, UNITS), timespans=dt.transpose(0, 1).squeeze(-1))
    ours = LTCCell(INPUTS, UNITS) if which == 0 else CfCCell(INPUTS, UNITS)
    h, _ = ours(u, dt, ours.init(5))
    for i in range(5):
        assert torch.equal(ours(u[:, i : i + 1], dt[:, i : i + 1], ours.init(1))[0][:, 0], h[:, i])


@pytest.mark.parametrize("which", [0, 1], ids=["ltc", "cfc"])
def test_as_many_rows_as_units_mixes_rows_up_in_theirs_and_not_in_ours(which: int) -> None:
    """B == H: theirs gives the dt of row i to neuron i of every row, and says nothing."""
    rnn = rnns()[which]
    cell = rnn.rnn_cell
    u, _ = make_rows(UNITS, 1)
    dt = torch.logspace(-2, 1, UNITS).view(1, UNITS, 1)
    h = 2 * torch.rand(UNITS, UNITS) - 1
    with torch.no_grad():
        whole, _ = rnn(u.transpose(0, 1), h, timespans=dt.transpose(0, 1).squeeze(-1))
        alone = torch.cat([rnn(u[:, i : i + 1].transpose(0, 1), h[i : i + 1], timespans=dt[:, i : i + 1, 0].t())[0] for i in range(UNITS)])
        mixed, _ = cell(u[0], h, dt[0].t())
        assert torch.equal(whole[:, 0], mixed)
        assert float((whole - alone).abs().max()) > 0.02
        ours = copy_ltc(cell) if which == 0 else copy_cfc(cell, CfCCell(INPUTS, UNITS))
        right = ours(u, dt, h)[0]
        torch.testing.assert_close(right[0], alone[:, 0], atol=1e-5, rtol=0)
        for i in range(UNITS):
            assert torch.equal(ours(u[:, i : i + 1], dt[:, i : i + 1], h[i : i + 1])[0][:, 0], right[:, i])


def test_ltc_at_dt_zero_is_nan_in_theirs_and_at_rest_in_ours() -> None:
    cell = theirs.LTCCell(built(FullyConnected(UNITS)))
    u, _ = make_rows(3, 1)
    h, still = torch.rand(3, UNITS), torch.zeros(3, 1)
    assert bool(cell(u[0], h, still)[1].isnan().all())
    ours = copy_ltc(cell)
    after = ours.step(u[0], h, still)
    assert torch.equal(after, h)
    torch.autograd.backward(after.sum())
    assert all(p.grad is not None and float(p.grad.abs().max()) == 0 for p in ours.parameters())


@pytest.mark.parametrize("mode", ["default", "pure", "no_gate"])
def test_cfc_at_dt_zero_moves_in_theirs_and_rests_in_ours(mode: Mode) -> None:
    cell = theirs.CfCCell(INPUTS, UNITS, mode)
    u, _ = make_rows(3, 1)
    h, still = 2 * torch.rand(3, UNITS) - 1, torch.zeros(3, 1)
    assert float((cell(u[0], h, still)[1] - h).detach().abs().max()) > 0.5
    assert torch.equal(copy_cfc(cell, CfCCell(INPUTS, UNITS, mode=mode)).step(u[0], h, still), h)


def gradient_norm(loss: Tensor, module: nn.Module) -> float:
    grads = torch.autograd.grad(loss, [p for p in module.parameters() if p.requires_grad])
    return float(torch.cat([g.flatten() for g in grads]).norm())


def test_cfc_gradients_grow_with_dt_in_theirs_and_not_from_our_start() -> None:
    torch.manual_seed(0)
    cell, ours = theirs.CfCCell(INPUTS, 32), CfCCell(INPUTS, 32)
    u, _ = make_rows(64, 1)
    h = 2 * torch.rand(64, 32) - 1
    hour, frame = torch.full((64, 1), 3600.0), torch.full((64, 1), 1 / 30)
    assert gradient_norm(cell(u[0], h, hour)[1].square().sum(), cell) > 3 * gradient_norm(cell(u[0], h, frame)[1].square().sum(), cell)
    assert gradient_norm(ours.step(u[0], h, hour).square().sum(), ours) < 3 * gradient_norm(ours.step(u[0], h, frame).square().sum(), ours)


def test_a_wired_cfc_leaks_in_theirs_and_not_in_ours() -> None:
    """Their mask leaves time_a and time_b out (mlech26l/ncps pull request 55): absent synapses into the first layer still speak."""
    wiring = built(NCP(6, 4, 2, 2, 2, 3, 2))
    cell = theirs.WiredCfCCell(INPUTS, wiring)
    inter = wiring.get_neurons_of_layer(0)
    u, h, dt = torch.rand(INPUTS), torch.rand(wiring.units), torch.full((1, 1), 0.5)

    def first_layer(u: Tensor, h: Tensor) -> Tensor:
        return cell(u[None], h[None], dt)[1][0, : len(inter)]  # type: ignore[no-any-return]

    absent = torch.tensor(wiring.sensory_adjacency_matrix[:, inter]).t() == 0
    by_u, _ = jacobians(first_layer, u.clone(), h.clone())
    assert int(absent.sum()) > 10
    assert bool((by_u[absent] != 0).all())

    kept = NCPWiring.from_dense(wiring.adjacency_matrix, wiring.sensory_adjacency_matrix)
    ours = CfCCell(INPUTS, wiring.units, wiring=kept)
    by_u, by_h = jacobians(lambda u, h: ours.step(u[None], h[None], dt)[0], u.clone(), h.clone())
    assert int((by_u[kept.sensory.dense(INPUTS, wiring.units).t() == 0] != 0).sum()) == 0
    assert int((by_h[(kept.recurrent.dense(wiring.units, wiring.units) + 2 * torch.eye(wiring.units)).t() == 0] != 0).sum()) == 0
