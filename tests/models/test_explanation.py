"""The promises of an explanation: it adds up, it finds what was planted, and it never answers for what was not judged."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.explanation import Explanation, explain
from models.temporal import TemporalHead, clip_logit
from tests.golden.renew import liven
from tests.models.test_temporal import E, make_clip


def make_head(cell: str = "liquid", seed: int = 0) -> TemporalHead:
    torch.manual_seed(seed)
    head = TemporalHead(E, 40, cell)
    with torch.no_grad():
        liven(head.evidence, seed + 1)
        liven(head.merge, seed + 2)
        liven(head.readout, seed + 3)
    return head


@pytest.mark.parametrize("cell", ["liquid", "resonator"])
def test_the_ledger_adds_up_to_the_logit(cell: str) -> None:
    head = make_head(cell)
    x, dt = make_clip(3, 40)
    mask = torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) > 0.2
    dt[11] = 0.0
    found = explain(head, x, dt, mask)
    outputs, _ = head(x, dt, mask)
    assert torch.equal(found.clip_logit, clip_logit(outputs.logit, mask).detach())
    torch.testing.assert_close(found.ledger.sum(0), found.clip_logit, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.remainder, found.clip_logit - found.ledger.sum(0), atol=1e-6, rtol=0)
    assert torch.equal(found.carried, torch.zeros(3))
    assert float((found.ledger - found.alone).abs().max()) > 1e-3, "the memory adds something"
    assert torch.equal(found.ledger[~mask], torch.zeros(int((~mask).sum()))), "a moment that was not judged gives nothing"


@pytest.mark.parametrize("cell", ["liquid", "resonator"])
def test_the_evidence_is_the_sum_of_what_each_moment_left(cell: str) -> None:
    """The claim behind the ledger, without its code: silence every moment's target but one, and the states of all such runs add up."""
    head = make_head(cell).double()
    x, dt = make_clip(2, 12)
    _, _, trace = head.trace(x.double(), dt.double())
    evidence, valid, h0 = head.evidence, torch.ones(12, 2, dtype=torch.bool), torch.zeros(2, 40, dtype=torch.float64)
    target = evidence.coefficients(trace.n)[0]  # type: ignore[operator]
    parts = torch.zeros_like(trace.k)
    for s in range(12):
        alone = torch.zeros_like(target)
        alone[s] = target[s]
        parts = parts + evidence.relaxed(alone, trace.n, trace.dt, h0, valid)  # type: ignore[operator]
    torch.testing.assert_close(parts, trace.k, atol=1e-12, rtol=0)


def test_what_was_carried_in_is_told_apart() -> None:
    head = make_head()
    x, dt = make_clip(2, 40)
    _, state = head(x[:25], dt[:25])
    found = explain(head, x[25:], dt[25:], None, state)
    assert float(found.carried.abs().min()) > 1e-6
    torch.testing.assert_close(found.ledger.sum(0) + found.carried, found.clip_logit, atol=1e-4, rtol=1e-4)


def test_the_window_is_where_the_evidence_lies() -> None:
    """One second of a face that jumps, in ten of one that hardly moves; the head is told by hand that surprise speaks for a fake."""
    head = surprised_head()
    x, dt = still_face(120)
    x[60:72] = normalize(x[60:72] + 0.4 * torch.randn(12, 1, E, generator=torch.Generator().manual_seed(4)), dim=-1)
    found = explain(head, x, dt)
    window = found.window(0)
    assert window is not None
    start, end, share = window
    assert 4.9 <= start <= 5.1
    assert 5.8 <= end <= 6.2
    assert share >= 0.8


def surprised_head() -> TemporalHead:
    torch.manual_seed(0)
    head = TemporalHead(E, 40)
    with torch.no_grad():
        head.embed.weight.mul_(20.0)
        head.merge.weight.zero_()
        for layer in (head.innovation, head.readout_hidden, head.readout):
            layer.weight.zero_()
            layer.bias.zero_()
        head.innovation.weight[0, 80] = 1.0  # the logarithm of the mean surprise
        head.innovation.weight[1, 80] = -1.0
        head.readout_hidden.weight[0, 0] = 1.0
        head.readout.weight[0, 0] = 4.0
    return head


def still_face(steps: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = normalize(torch.randn(1, 1, E, generator=generator) + 0.01 * torch.randn(steps, 1, E, generator=generator), dim=-1)
    dt = torch.full((steps, 1, 1), 1 / 12)
    dt[0] = math.inf
    return x, dt


def test_evenly_spaced_pictures_owe_nothing_to_their_timing() -> None:
    head = make_head()
    x, dt = make_clip(2, 30)
    dt[1:] = 0.0625  # a power of two: its mean is itself, to the bit
    found = explain(head, x, dt)
    assert torch.equal(found.evenly, found.outputs.logit)
    assert torch.equal(found.timing, torch.zeros(2))


def test_the_counterfactual_is_the_same_pictures_at_other_times() -> None:
    head = make_head()
    x, dt = make_clip(1, 20)
    found = explain(head, x, dt)
    even = torch.full_like(dt, float(dt[1:].mean()))
    even[0] = math.inf
    other, _ = head(x, even)
    torch.testing.assert_close(found.evenly, other.logit.detach(), atol=1e-5, rtol=1e-5)
    assert float(found.timing.abs()) > 1e-4
    torch.testing.assert_close(found.timing, found.clip_logit - found.evenly.mean(0), atol=1e-6, rtol=0)


def test_time_is_counted_from_the_first_judged_moment() -> None:
    head = make_head()
    x, dt = make_clip(1, 5)
    mask = torch.tensor([[False], [True], [True], [False], [True]])
    dt[1:] = torch.tensor([math.inf, 0.5, 0.25, 0.5]).reshape(4, 1, 1)  # the last 0.5 s hold the 0.25 s of the moment without a face
    found = explain(head, x, dt, mask)
    assert found.seconds()[:, 0].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert found.compared[:, 0].tolist() == [False, False, True, False, True]


def test_a_first_sight_is_no_evidence() -> None:
    """Its surprise is 1 by convention, which is a lot to a head that was told that surprise speaks for a fake."""
    x, dt = still_face(30)
    x[20] = normalize(-x[20], dim=-1)
    head = surprised_head()
    found = explain(head, x, dt)
    window = found.window(0)
    assert window is not None
    assert window[0] == pytest.approx(20 / 12)
    _, state = head(x[:5], dt[:5])
    assert bool(explain(head, x[5:], dt[5:], None, state).compared.all())
    assert explain(head, x[:1], dt[:1]).window(0) is None


def test_a_rough_read_out_gets_more_points() -> None:
    """Far from any trained head: 16 points miss its logit by more than 1e-4."""
    head = make_head()
    liven(head, 9)
    x, dt = make_clip(2, 30)
    found = explain(head, x, dt)
    assert float(found.remainder.abs().max()) <= 1e-4 * max(1.0, float(found.clip_logit.abs().max()))


def test_it_explains_inside_inference_mode_and_autocast() -> None:
    head = make_head()
    x, dt = make_clip(2, 12)
    plain = explain(head, x, dt)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = explain(head, x.clone(), dt.clone(), None, head.init(2))
    assert torch.equal(inside.ledger, plain.ledger)


def test_an_endless_gap_of_a_known_face_counts_as_the_head_counts_it() -> None:
    x, dt = make_clip(1, 16)
    dt[8] = math.inf
    endless = explain(make_head(), x, dt)
    assert endless.window(0) is not None
    assert bool(endless.seconds().isfinite().all())
    dt[8] = 60.0
    assert torch.equal(explain(make_head(), x, dt).timing, endless.timing)


def test_nothing_judged_has_no_reasons() -> None:
    head = make_head()
    x, dt = make_clip(2, 6)
    unseen = explain(head, x, dt, torch.zeros(6, 2, dtype=torch.bool))
    assert unseen.window(0) is None
    assert not bool(unseen.ledger.any())
    empty = explain(head, x[:0], dt[:0])
    assert empty.ledger.shape == (0, 2)
    assert empty.window(1) is None


def test_a_row_that_is_no_number_spoils_no_other_ledger() -> None:
    head = make_head()
    x, dt = make_clip(2, 10)
    clean = explain(head, x, dt)
    bad = x.clone()
    bad[4, 1] = math.nan
    found = explain(head, bad, dt)
    assert torch.equal(found.ledger[:, 0], clean.ledger[:, 0])
    assert bool(found.ledger.isfinite().all())


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="share: expected more than 0 and at most 1, got"):
        explained().window(0, share)


def test_the_whole_evidence_fits_into_the_widest_window() -> None:
    found = explained()
    window = found.window(0, 1.0)
    assert window is not None
    assert window[2] == pytest.approx(1.0)


def explained() -> Explanation:
    x, dt = make_clip(1, 8)
    return explain(make_head(), x, dt)
