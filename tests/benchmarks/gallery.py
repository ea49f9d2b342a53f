"""What liquid cells do, shown by our own: parameters set by hand and true seconds in, six small experiments and their picture out.

`python -m tests.benchmarks.gallery [--out models/gallery.png]`. Nothing is learned and nothing is drawn that a cell did not compute;
`test_gallery.py` holds every panel to the sentence under it. An observation's input counts from the previous observation on, so a signal
that is constant between two moments is the same signal however often it is looked at in between.
"""

from __future__ import annotations

import argparse
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.cell import Cell
from models.liquid import LiquidCell
from models.ltc import LTCCell
from models.wiring import NCPWiring
from service.plot_style import COLOURS, DASHED, INK, QUIET, lane, png
from tests.support import ROOT

Floats = NDArray[np.float64]

BLUE, RED, GREEN, PINK, ORANGE, SKY = COLOURS
PICTURE: Final = ROOT / "models" / "gallery.png"
SMOOTH_DT_S: Final = 1 / 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the six experiments and write their picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gallery", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the picture goes (.png)")
    asked = parser.parse_args(arguments)
    asked.out.write_bytes(gallery_png())


def gallery_png() -> bytes:
    """Two rows of three panels, each with its sentence."""
    figure = Figure(figsize=(15, 9.6), dpi=110, layout="constrained", facecolor="white")
    parts = np.asarray(figure.subfigures(2, 3, hspace=0.03, wspace=0.03))
    for part, (title, lesson, draw) in zip(parts.flat, PANELS, strict=True):
        part.suptitle(title, x=0.02, ha="left", fontsize=12.5, fontweight="bold", color=INK)
        part.supxlabel("\n".join(textwrap.wrap(lesson, 72)), x=0.02, ha="left", fontsize=9, color=INK)
        draw(part)
    # 256 colours are all that its lines and their soft edges need, at a third of the size.
    out = io.BytesIO()
    Image.open(io.BytesIO(png(figure))).convert("RGB").quantize(256).save(out, format="png", optimize=True)
    return out.getvalue()


def rolled(cell: Cell, u: Tensor, dt: Tensor | float, h0: Tensor | None = None) -> Tensor:
    """Every state (T, N, D) of u (T, N, inputs) with dt (T,) seconds, or always the same, from h0 (N, D) or from nothing."""
    steps, rows = u.shape[:2]
    seconds = torch.as_tensor(dt, dtype=u.dtype).expand(steps).reshape(-1, 1, 1).expand(steps, rows, 1)
    with torch.no_grad():
        every: Tensor = cell(u, seconds, cell.init(rows) if h0 is None else h0)[0]
    return every


def array(tensor: Tensor) -> Floats:
    """For the picture."""
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)


def clock(seconds: float, dt_s: float) -> Floats:
    """The moments dt, 2 dt, ... until `seconds` are over."""
    return np.asarray(dt_s * np.arange(1, round(seconds / dt_s) + 1), dtype=np.float64)


# a: time constants follow the input


TAU_S: Final = 0.5
ACTIVITIES: Final = (-1.0, 0.0, 1.0)
PHASE_S: Final = 6.0


def adaptive_cell() -> LiquidCell:
    """One memory of 0.5 s: A(u) = the first input; the second one, activity a, moves its time constant to 0.5 exp(-2 tanh a) seconds."""
    cell = LiquidCell(2, 1)
    assert cell.target is not None
    with torch.no_grad():
        cell.target.weight.copy_(torch.tensor([[1.0, 0.0]]))
        cell.target.bias.zero_()
        cell.rate.weight.copy_(torch.tensor([[0.0, 1.0]]))
        cell.kappa.fill_(-math.log(TAU_S))
    return cell


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """The same step, up for 3 s and down for 3 s, in three phases of different activity."""

    seconds: Floats
    signal: Floats
    state: Floats
    tau_s: Floats
    """Effective time constant at each moment."""


def adapt() -> Adaptation:
    """A step relaxes slowly where little happens and fast where much does."""
    cell = adaptive_cell()
    each = round(PHASE_S / SMOOTH_DT_S)
    signal = torch.cat((torch.ones(each // 2), torch.zeros(each // 2))).repeat(len(ACTIVITIES))
    u = torch.stack((signal, torch.tensor(ACTIVITIES).repeat_interleave(each)), -1).unsqueeze(1)
    seconds = clock(len(ACTIVITIES) * PHASE_S, SMOOTH_DT_S)
    rate = cell.coefficients(u)[1]
    return Adaptation(seconds, array(signal), array(rolled(cell, u, SMOOTH_DT_S)[:, 0, 0]), array(1.0 / rate[:, 0, 0]))


def draw_adaptation(part: SubFigure) -> None:
    """The state over the step, and the time constant below it."""
    found = adapt()
    above, below = _two(part, (3, 2))
    above.fill_between(found.seconds, found.signal, color="#e3e8ec", lw=0, step="pre", label="input")
    above.plot(found.seconds, found.state, color=BLUE, lw=2, label="state")
    above.set_ylim(-0.05, 1.5)
    for i, word in enumerate(("calm", "usual", "busy")):
        above.text((i + 0.5) * PHASE_S, 1.14, word, ha="center", fontsize=9, color=INK)
    _legend(above)
    lane(above, "state")
    for axes in (above, below):
        axes.set_xticks(range(0, 19, 3))
    low, high = TAU_S * math.exp(-2), TAU_S * math.exp(2)
    below.axhspan(low, high, color="#eef4f8", lw=0)
    below.plot(found.seconds, found.tau_s, color=RED, lw=2)
    below.set_yscale("log")
    below.set_ylim(low / 1.5, high * 1.5)
    below.set_yticks([0.1, 0.3, 1, 3], ["0.1 s", "0.3 s", "1 s", "3 s"])
    below.minorticks_off()
    below.text(0.1, low * 1.08, "hard bounds: 0.07 s to 3.7 s", fontsize=8, color=QUIET, va="bottom")
    lane(below, "time constant")
    below.set_xlabel("seconds", fontsize=8.5, color=INK)


# b: irregular sampling


SIGNAL: Final = (0.9, -0.7, 0.4, 1.0, -0.9, 0.1)
"""Held for a second each."""
RATES: Final = ("60 fps", "12 fps", "5 fps", "bursts")
INDEX_DT_S: Final = 1 / 12


def sampling_cell() -> LiquidCell:
    """One memory of 0.6 s whose input also moves its time constant, so that exactness is no accident of a constant one."""
    cell = LiquidCell(1, 1)
    assert cell.target is not None
    with torch.no_grad():
        cell.target.weight.fill_(1.0)
        cell.target.bias.zero_()
        cell.rate.weight.fill_(-0.5)
        cell.kappa.fill_(-math.log(0.6))
    return cell


def moments(name: str) -> Floats:
    """Seconds at which a sampling looks: always when the signal is about to change; bursts see nothing for 0.7 s of each second."""
    if name == "bursts":
        burst = np.array([0.02, 0.05, 0.09, 0.16, 0.22, 0.3, 1.0])
        return np.concatenate([second + burst for second in range(len(SIGNAL))])
    return clock(len(SIGNAL), 1 / int(name.split()[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """One way of looking at the signal."""

    seconds: Floats
    exact: Floats
    """States by true seconds."""
    by_index: Floats
    """States if every look counts as 1/12 s, as in a net that counts frames."""

    def at_whole_seconds(self, states: Floats) -> Floats:
        """The states when a second is over."""
        return np.asarray(states[np.isclose(self.seconds, np.round(self.seconds), atol=1e-6)])


def sample(name: str) -> Sampled:
    """The same cell and the same signal, looked at as `name` says."""
    cell, seconds = sampling_cell(), moments(name)
    held = np.ceil(seconds - 1e-9).astype(int) - 1
    u = torch.tensor(SIGNAL)[held].reshape(-1, 1, 1)
    dt = torch.tensor(np.diff(seconds, prepend=0.0), dtype=torch.float32)
    return Sampled(seconds, array(rolled(cell, u, dt)[:, 0, 0]), array(rolled(cell, u, INDEX_DT_S)[:, 0, 0]))


def draw_sampling(part: SubFigure) -> None:
    """True seconds above, frame counting below."""
    above, below = _two(part, (1, 1))
    styles = ((SKY, "", 1.2), (BLUE, "o", 0.0), (RED, "s", 0.0), (INK, "x", 0.0))
    for axes, word in ((above, "true dt"), (below, "counting frames")):
        signal = np.repeat(SIGNAL, 2)
        axes.plot(np.repeat(np.arange(len(SIGNAL) + 1), 2)[1:-1], signal, color="#cfd6dc", lw=1, zorder=0)
        for name, (colour, marker, width) in zip(RATES, styles, strict=True):
            found = sample(name)
            states = found.exact if axes is above else found.by_index
            line = width or (0.0 if axes is above else 0.9)
            axes.plot(found.seconds, states, color=colour, marker=marker, ms=3.5, mfc="none", mew=1, lw=line, label=name)
        axes.set_ylim(-1.1, 1.3)
        lane(axes, f"state,\n{word}")
    above.legend(fontsize=8, frameon=False, ncols=4, loc="upper left", labelcolor=INK, columnspacing=1, handletextpad=0.4, borderaxespad=0)
    below.set_xlabel("seconds", fontsize=8.5, color=INK)


# c: oscillation


RHYTHMS: Final = (("blinks", 0.3, 8.0, GREEN), ("pulse", 1.2, 3.0, RED), ("flicker", 5.0, 1.2, BLUE))
"""What it may be, Hz, time constant of forgetting in seconds, colour."""
RING_S: Final = 8.0


def resonating_cell() -> LiquidCell:
    """Three resonators of the rhythms above; the one input pulls the real part of each."""
    cell = LiquidCell(1, 6, resonators=3)
    assert cell.target is not None
    with torch.no_grad():
        cell.target.weight.copy_(torch.tensor([[1.0]] * 3 + [[0.0]] * 3))
        cell.target.bias.zero_()
        cell.kappa.copy_(-torch.tensor([tau for _, _, tau, _ in RHYTHMS]).log())
        cell.hz.copy_(torch.tensor([hz for _, hz, _, _ in RHYTHMS]))
    return cell


def ring(dt_s: float = 1 / 120) -> tuple[Floats, Floats]:
    """Seconds, and the real parts (T, 3) of three resonators after one kick, with nothing to see any more."""
    seconds = clock(RING_S, dt_s)
    kicked = torch.tensor([[1.0] * 3 + [0.0] * 3])
    states = rolled(resonating_cell(), torch.zeros(len(seconds), 1, 1), dt_s, kicked)
    return seconds, array(states[:, 0, :3])


def respond(hz: Floats, seconds: float = 40.0, dt_s: float = 1 / 60) -> Floats:
    """(frequencies, 3): how strongly each resonator swings, settled, when the input is a wave of that frequency; 1 at most."""
    times = dt_s * torch.arange(1, round(seconds / dt_s) + 1)
    waves = torch.cos(2.0 * math.pi * times[:, None] * torch.tensor(hz, dtype=torch.float32))
    states = rolled(resonating_cell(), waves.unsqueeze(-1), dt_s)
    strength = array((states[..., :3].square() + states[..., 3:].square()).sqrt()[len(times) * 3 // 4 :].amax(0))
    return np.asarray(strength / strength.max(0))


def draw_resonance(part: SubFigure) -> None:
    """Three traces, and three curves of resonance."""
    above, below = _two(part, (3, 2))
    seconds, states = ring()
    for i, (name, hz, _, colour) in enumerate(RHYTHMS):
        above.plot(seconds, states[:, i] - 2.4 * i, color=colour, lw=1.2)
        above.text(RING_S * 1.01, -2.4 * i, f"{name}\n{hz:g} Hz", fontsize=8.5, color=colour, va="center")
    above.set_ylim(-6.2, 1.3)
    above.set_yticks([])
    lane(above, "after one kick")
    above.set_xlabel("seconds", fontsize=8.5, color=INK)
    asked = np.geomspace(0.1, 12.0, 160)
    for (_, _, _, colour), strength in zip(RHYTHMS, respond(asked).T, strict=True):
        below.fill_between(asked, strength, color=colour, alpha=0.18, lw=0)
        below.plot(asked, strength, color=colour, lw=1.5)
    below.set_xscale("log")
    below.set_xticks([0.1, 0.3, 1.2, 5, 12], ["0.1", "0.3", "1.2", "5", "12"])
    below.minorticks_off()
    below.set_ylim(0, 1.1)
    lane(below, "answer")
    below.set_xlabel("rhythm of the input, Hz", fontsize=8.5, color=INK)


# d: bistability


PUSH_S: Final = (2.0, 2.5)


def bistable_cell() -> LTCCell:
    """One neuron that excites itself: 0.3 s dh/dt = -h + (4 S(h) + 3 S(u)) (1 - h) + 3 S(-u) (-1 - h), S(x) = sigmoid(10 (x - 0.5)).

    Its inputs are (u, -u): the first excites, the second inhibits.
    """
    cell = LTCCell(2, 1, wiring=NCPWiring.from_dense([[1]], [[1], [-1]]), solver="rk4", unfolds=4)
    with torch.no_grad():
        for bank, weight in ((cell.recurrent, 4.0), (cell.sensory, 3.0)):
            bank.log_w.fill_(math.log(weight))
            bank.sigma.fill_(10.0)
            bank.mu.fill_(0.5)
        cell.log_leak.zero_()
        cell.vleak.zero_()
        cell.log_cm.fill_(math.log(0.3))
    return cell


def pushed(signal: Floats, dt_s: float, h0: float = 0.0) -> Floats:
    """States of the bistable neuron under `signal`, looked at every dt_s seconds."""
    u = torch.tensor(signal, dtype=torch.float32)
    return array(rolled(bistable_cell(), torch.stack((u, -u), -1).unsqueeze(1), dt_s, torch.tensor([[h0]]))[:, 0, 0])


def remember(dt_s: float = 0.05) -> tuple[Floats, Floats, Floats]:
    """Seconds, a low neuron that is pushed up, and a high one that is pushed down; then 60 s of nothing."""
    seconds = clock(PUSH_S[1] + 60.0, dt_s)
    push = np.where((seconds > PUSH_S[0]) & (seconds <= PUSH_S[1]), 1.0, 0.0)
    return seconds, pushed(push, dt_s, 0.0), pushed(-push, dt_s, 0.8)


def sweep(dt_s: float = 0.05) -> tuple[Floats, Floats]:
    """An input that goes slowly from -1 to 1 and back, twice; the last round, and the states in it."""
    once = np.concatenate([np.linspace(-1, 1, 500), np.linspace(1, -1, 500)])
    states = pushed(np.tile(once, 2), dt_s)
    return once, states[len(once) :]


def draw_bistability(part: SubFigure) -> None:
    """The two histories, and the loop."""
    above, below = _two(part, (1, 1))
    seconds, up, down = remember()
    above.axvspan(*PUSH_S, color="#e3e8ec", lw=0)
    above.text(PUSH_S[1] + 0.15, -0.72, "a push of 0.5 s", fontsize=8, color=INK)
    shown = seconds <= 12.0
    for state, word, colour in ((up, "up", RED), (down, "down", BLUE)):
        above.plot(seconds[shown], state[shown], color=colour, lw=2)
        above.text(11.9, state[-1] + 0.06, f"pushed {word}; 60 s later: {state[-1]:.2f}", ha="right", fontsize=8.5, color=colour)
    above.set_xlim(0, 12)
    above.set_ylim(-0.85, 1.1)
    lane(above, "state")
    above.set_xlabel("seconds", fontsize=8.5, color=INK)
    signal, states = sweep()
    half = len(signal) // 2
    rising, falling = states[:half], states[half:][::-1]
    double = signal[:half][falling - rising > 0.4]
    below.axvspan(double[0], double[-1], color="#eef4f8", lw=0)
    below.text(double.mean(), -0.72, "both states\npossible", ha="center", fontsize=8, color=INK)
    below.plot(signal[:half], rising, color=RED, lw=2, label="input rises")
    below.plot(signal[:half], falling, color=BLUE, lw=2, label="input falls")
    below.set_ylim(-0.9, 1.1)
    below.legend(loc="upper left", fontsize=8, frameon=False, labelcolor=INK)
    lane(below, "state")
    below.set_xlabel("input", fontsize=8.5, color=INK)


# e: limit cycle


STARTS: Final = ((0.9, 0.05), (0.05, 0.42), (-0.5, 0.8), (-0.6, 0.05))
CYCLE_DT_S: Final = 0.005
CYCLE_S: Final = 20.0


def cycling_cell() -> LTCCell:
    """Neuron 0 excites itself (8) and neuron 1 (7), which inhibits it (4.5); an input of 1 keeps neuron 0 going (0.3).

    Leaks are 1; 0 lives on 0.1 s and 1 on 0.25 s. The one that inhibits comes too late, and so neither ever comes to rest.
    """
    cell = LTCCell(1, 2, wiring=NCPWiring.from_dense([[1, 1], [-1, 0]], [[1, 0]]), solver="rk4", unfolds=1)
    with torch.no_grad():
        # Rows are a neuron's synapses, columns the neurons they end in: 0 hears 0 and 1, 1 hears 0 (and a padding that never counts).
        cell.recurrent.log_w.copy_(torch.tensor([[8.0, 7.0], [4.5, 1.0]]).log())
        cell.recurrent.sigma.fill_(11.0)
        cell.recurrent.mu.copy_(torch.tensor([[0.35, 0.35], [0.5, 0.5]]))
        cell.sensory.log_w.fill_(math.log(0.3))
        cell.sensory.sigma.fill_(20.0)
        cell.sensory.mu.fill_(0.5)
        cell.log_leak.zero_()
        cell.vleak.zero_()
        cell.log_cm.copy_(torch.tensor([0.1, 0.25]).log())
    return cell


def cycle() -> tuple[Floats, Floats]:
    """Seconds, and the states (T, starts, 2) from each of STARTS."""
    seconds = clock(CYCLE_S, CYCLE_DT_S)
    return seconds, array(rolled(cycling_cell(), torch.ones(len(seconds), len(STARTS), 1), CYCLE_DT_S, torch.tensor(STARTS)))


def draw_cycle(part: SubFigure) -> None:
    """The phase plane, and the two neurons over time."""
    left, right = part.subplots(2, 1, height_ratios=(5, 2))
    seconds, states = cycle()
    settled = states[len(states) // 2 :, 0]
    left.plot(settled[:, 0], settled[:, 1], color="#d9e4ec", lw=7, solid_capstyle="round", zorder=0)
    for i, colour in enumerate((BLUE, RED, GREEN, PINK)):
        path = np.vstack([np.array(STARTS[i])[None], states[: round(4.0 / CYCLE_DT_S), i]])
        left.plot(path[:, 0], path[:, 1], color=colour, lw=1.3)
        left.plot(*STARTS[i], marker="o", ms=6, color=colour)
    lane(left, "inhibiting neuron")
    left.set_xlabel("exciting neuron", fontsize=8.5, color=INK)
    shown = slice(0, round(6.0 / CYCLE_DT_S))
    right.plot(seconds[shown], states[shown, 0, 0], color=BLUE, lw=1.6, label="exciting")
    right.plot(seconds[shown], states[shown, 0, 1], color=INK, lw=1.2, ls=(0, (3, 2)), label="inhibiting")
    right.set_ylim(-0.8, 1.5)
    _legend(right)
    lane(right, "state")
    right.set_xlabel("seconds", fontsize=8.5, color=INK)


# f: what a gap does


GAP_TAUS_S: Final = (0.1, 1.0, 10.0)


def forgetting_cell() -> LiquidCell:
    """Memories of 0.1, 1 and 10 s that see nothing: A = 0."""
    cell = LiquidCell(1, len(GAP_TAUS_S))
    assert cell.target is not None
    with torch.no_grad():
        cell.target.weight.zero_()
        cell.target.bias.zero_()
        cell.kappa.copy_(-torch.tensor(GAP_TAUS_S).log())
    return cell


def forget(gaps_s: Floats, parts: Sequence[float] = (1.0,)) -> Floats:
    """(gaps, 3): what is left of 1 after each gap, which comes in one step or in several of unequal `parts` of it."""
    cell, h = forgetting_cell(), torch.ones(len(gaps_s), len(GAP_TAUS_S))
    gap = torch.tensor(gaps_s, dtype=torch.float32).unsqueeze(-1)
    with torch.no_grad():
        for share in parts:
            h = cell.step(torch.zeros(len(gaps_s), 1), h, share * gap)
    return array(h)


def draw_gap(part: SubFigure) -> None:
    """What is left after one step of any length."""
    axes = part.subplots()
    gaps = np.geomspace(1e-3, 1e3, 200)
    few = np.geomspace(2e-3, 5e2, 14)
    names = ("0.1 s", "1 s", "10 s")
    for i, (tau, colour) in enumerate(zip(GAP_TAUS_S, (SKY, BLUE, INK), strict=True)):
        axes.plot(gaps, forget(gaps)[:, i], color=colour, lw=2)
        axes.plot(few, forget(few, (0.5, 0.2, 0.27, 0.03))[:, i], ls="", marker="o", mfc="white", ms=5, color=colour)
        axes.text(tau * 1.1, 0.39, names[i], fontsize=9, color=colour)
    axes.plot([], [], color=INK, lw=2, label="in one step")
    axes.plot([], [], ls="", marker="o", mfc="white", color=INK, label="in four unequal steps")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks([1e-3, 1e-2, 1e-1, 1, 10, 100, 1000], ["1 ms", "10 ms", "0.1 s", "1 s", "10 s", "100 s", "1000 s"])
    axes.set_ylim(-0.06, 1.2)
    axes.plot(gaps[0], forget(np.zeros(1))[0, 0], marker="D", ms=8, color=RED, clip_on=False, zorder=5)
    axes.text(1.5e-3, 1.06, "dt = 0: not a bit moves", fontsize=9, color=RED)
    axes.text(900, 0.05, "all forgotten", ha="right", fontsize=9, color=INK)
    axes.axhline(1 / math.e, color=QUIET, lw=0.8, ls=DASHED)
    axes.text(1.1e-3, 1 / math.e + 0.015, "1/e", fontsize=8, color=QUIET)
    axes.legend(loc="lower left", fontsize=8, frameon=False, labelcolor=INK, bbox_to_anchor=(0.0, 0.08))
    lane(axes, "what is left")
    axes.set_xlabel("length of the gap", fontsize=8.5, color=INK)


def _two(part: SubFigure, ratios: tuple[float, float]) -> tuple[Axes, Axes]:
    above, below = part.subplots(2, 1, height_ratios=ratios)
    return above, below


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=2, labelcolor=INK, borderaxespad=0)


Panel = tuple[str, str, Callable[[SubFigure], None]]

PANELS: Final[tuple[Panel, ...]] = (
    (
        "a  Time constants follow the input",
        "LiquidCell: one and the same memory lives on 2.3 s where little happens and on 0.1 s where much does, within bounds that hold.",
        draw_adaptation,
    ),
    (
        "b  How often one looks changes nothing",
        "LiquidCell's flow is exact: 60, 12 or 5 looks a second, or bursts, give one state; a net that counts frames gives four.",
        draw_sampling,
    ),
    (
        "c  Rhythms of their own",
        "LiquidCell's resonators ring on after one kick, each at its own rhythm, and each answers to little but that.",
        draw_resonance,
    ),
    (
        "d  Two states, chosen by history",
        "LTCCell: a neuron that excites itself keeps what it was last told for a minute and longer; what it says now depends on the past.",
        draw_bistability,
    ),
    (
        "e  One orbit from every start",
        "LTCCell: one neuron excites, one inhibits and comes late; from each of four starts they end on the same cycle and never rest.",
        draw_cycle,
    ),
    (
        "f  What a gap does",
        "LiquidCell: a step of no time is no step, a long one forgets, and cutting a gap into pieces changes nothing.",
        draw_gap,
    ),
)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
