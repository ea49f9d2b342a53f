"""Every sentence of the gallery in numbers: what a panel claims, its cells do, and the script writes the picture."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks import gallery
from tests.models.contracts import same_bits


def test_a_time_constants_follow_the_input_within_their_bounds() -> None:
    found = gallery.adapt()
    each = round(gallery.PHASE_S / gallery.SMOOTH_DT_S)
    expected = [gallery.TAU_S * math.exp(-2 * math.tanh(activity)) for activity in gallery.ACTIVITIES]
    assert np.unique(found.tau_s.round(5)) == pytest.approx(sorted(expected), abs=1e-5)
    assert found.tau_s.max() / found.tau_s.min() > 20
    for activity in (-30.0, 30.0):
        tau = 1 / float(gallery.adaptive_cell().coefficients(torch.tensor([[1.0, activity]]))[1].detach())
        assert gallery.TAU_S * math.exp(-2) * 0.999 <= tau <= gallery.TAU_S * math.exp(2) * 1.001
    for phase, tau in enumerate(expected):
        start = phase * each
        before = 0.0 if phase == 0 else found.state[start - 1]
        way = (found.state[start : start + each // 2] - before) / (1.0 - before)
        reached = found.seconds[np.argmax(way >= 1 - 1 / math.e)]
        assert reached == pytest.approx(tau, abs=2 * gallery.SMOOTH_DT_S), "63 % of the step after one time constant"


def test_b_every_sampling_gives_the_same_state_and_counting_frames_does_not() -> None:
    found = {name: gallery.sample(name) for name in gallery.RATES}
    exact = np.stack([one.at_whole_seconds(one.exact) for one in found.values()])
    counted = np.stack([one.at_whole_seconds(one.by_index) for one in found.values()])
    assert exact.shape == (4, len(gallery.SIGNAL))
    assert np.ptp(exact, axis=0).max() < 1e-5
    assert np.ptp(counted, axis=0).min() > 0.1
    assert counted[gallery.RATES.index("12 fps")] == pytest.approx(exact[0], abs=1e-5), "1/12 s is right for one of them"


@pytest.mark.parametrize("dt_s", [1 / 120, 1 / 47])
def test_c_resonators_ring_at_their_own_rhythm(dt_s: float) -> None:
    seconds, states = gallery.ring(dt_s)
    for i, (name, hz, _, _) in enumerate(gallery.RHYTHMS):
        state = states[:, i]
        falls = np.flatnonzero((state[:-1] > 0) & (state[1:] <= 0))[: max(2, round(2 * hz))]
        # Where the line between two moments crosses zero: a whole moment would be 10 % of the fastest rhythm.
        crossings = seconds[falls] + dt_s * state[falls] / (state[falls] - state[falls + 1])
        period = np.diff(crossings).mean()
        assert period == pytest.approx(1 / hz, rel=0.02), name


def test_c_each_resonator_answers_to_its_own_rhythm() -> None:
    rhythms = np.array([hz for _, hz, _, _ in gallery.RHYTHMS])
    answers = gallery.respond(rhythms)
    assert (np.diag(answers) > 0.99).all()
    assert answers[~np.eye(3, dtype=bool)].max() < 0.2


def test_d_two_states_stay_for_a_minute() -> None:
    seconds, up, down = gallery.remember()
    settled = seconds >= gallery.PUSH_S[1] + 5.0
    assert seconds[-1] - gallery.PUSH_S[1] == pytest.approx(60.0)
    assert (up - down)[settled].min() > 0.5
    assert np.ptp(up[settled]) < 1e-3 and np.ptp(down[settled]) < 1e-3
    assert up[0] < down[0] - 0.5, "the push turned both over"


def test_d_what_it_says_depends_on_where_the_input_comes_from() -> None:
    signal, states = gallery.sweep()
    half = len(signal) // 2
    apart = states[half:][::-1] - states[:half]
    assert (apart[np.abs(signal[:half]) < 0.1] > 0.5).all()
    assert np.abs(apart[[0, -1]]).max() < 0.01, "a strong input decides alone"


def test_e_every_start_ends_on_one_orbit() -> None:
    seconds, states = gallery.cycle()
    late, later = (states[(seconds > a) & (seconds <= a + 5)] for a in (10.0, 15.0))
    for neuron in (0, 1):
        size, again = np.ptp(late[..., neuron], axis=0), np.ptp(later[..., neuron], axis=0)
        assert size.min() > 0.3
        assert again == pytest.approx(size, rel=0.01), "it neither dies nor grows"
        assert np.ptp(again) < 0.01, "from every start the same"
    rises = [np.flatnonzero((later[:-1, i, 0] < 0) & (later[1:, i, 0] >= 0)) for i in range(len(gallery.STARTS))]
    periods = [np.diff(one).mean() * gallery.CYCLE_DT_S for one in rises]
    assert np.ptp(periods) < 0.02 * np.mean(periods)


def test_e_the_orbit_is_the_equations_and_not_the_steps() -> None:
    cell = gallery.cycling_cell()
    cell.unfolds = 8
    h0 = torch.tensor(gallery.STARTS)
    coarse = gallery.rolled(gallery.cycling_cell(), torch.ones(400, len(h0), 1), gallery.CYCLE_DT_S, h0)
    fine = gallery.rolled(cell, torch.ones(400, len(h0), 1), gallery.CYCLE_DT_S, h0)
    torch.testing.assert_close(coarse, fine, atol=1e-3, rtol=0)


def test_f_no_time_is_no_step_and_a_long_gap_forgets() -> None:
    cell, h = gallery.forgetting_cell(), torch.tensor([[0.3, -0.0, 1e-30]])
    with torch.no_grad():
        assert same_bits(cell.step(torch.ones(1, 1), h, torch.zeros(1, 1)), h)
    assert gallery.forget(np.array([1000.0])).max() < 1e-6
    gaps = np.geomspace(1e-3, 1e3, 20)
    expected = np.exp(-gaps[:, None] / np.array(gallery.GAP_TAUS_S))
    assert gallery.forget(gaps) == pytest.approx(expected, abs=1e-5)
    assert gallery.forget(gaps, (0.5, 0.2, 0.27, 0.03)) == pytest.approx(expected, abs=1e-5)


def test_the_script_writes_a_small_picture(tmp_path: Path) -> None:
    gallery.main(["--out", str(tmp_path / "g.png")])
    data = (tmp_path / "g.png").read_bytes()
    assert len(data) < 300_000
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert picture.shape[0] > 900 and picture.shape[1] > 1400
    assert picture.std() > 10, "something is drawn"
