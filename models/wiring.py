"""NCPWiring: sizes and a seed in, a list of synapses out. `ltc.py` computes these alone, padded to the largest fan-in; `cfc.py` masks.

Sensory -> inter -> command -> motor with recurrent commands is the neural circuit policy of Lechner et al. 2020, "Neural circuit
policies enabling auditable autonomy" (Nature Machine Intelligence 2). Neurons are numbered motor first, then command, then inter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Synapses:
    """Directed synapses, sorted by (post, pre), each pair at most once; polarity +1 excites, -1 inhibits."""

    pre: tuple[int, ...]
    post: tuple[int, ...]
    polarity: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pre)

    def dense(self, sources: int, units: int) -> Tensor:
        """(sources, units) float: the polarity where a synapse is, 0 where none is."""
        matrix = torch.zeros((sources, units), dtype=torch.float32)
        matrix[list(self.pre), list(self.post)] = torch.tensor(self.polarity, dtype=torch.float32)
        return matrix


@dataclass(frozen=True, slots=True)
class FanIn:
    """Synapses gathered by the neuron they end in, padded to the largest fan-in F; neurons `first` to `first + P - 1` cover them all."""

    first: int
    pre: Tensor
    """(F, P) int64; 0 in the padding."""
    polarity: Tensor
    """(F, P) float; 0 marks padding."""

    @staticmethod
    def of(synapses: Synapses) -> FanIn:
        """The layout of these synapses; one column of padding when there are none."""
        first = min(synapses.post, default=0)
        columns = max(synapses.post, default=0) - first + 1
        lists: list[list[tuple[int, int]]] = [[] for _ in range(columns)]
        for pre, post, polarity in zip(synapses.pre, synapses.post, synapses.polarity, strict=True):
            lists[post - first].append((pre, polarity))
        fan_in = max(1, *(len(column) for column in lists))
        padded = torch.tensor([column + [(0, 0)] * (fan_in - len(column)) for column in lists])
        return FanIn(first, padded[..., 0].t().contiguous(), padded[..., 1].t().contiguous().float())


@dataclass(frozen=True, slots=True)
class NCPWiring:
    """Who feeds whom: `sensory` from inputs to neurons, `recurrent` among neurons.

    Attributes:
        inputs: components of u.
        units: neurons (D).
        motor: how many of them, counted from 0, are outputs.
    """

    inputs: int
    units: int
    motor: int
    sensory: Synapses
    recurrent: Synapses

    @classmethod
    def build(
        cls,
        inputs: int,
        *,
        inter: int,
        command: int,
        motor: int,
        sensory_fan_out: int,
        inter_fan_out: int,
        command_recurrent: int,
        motor_fan_in: int,
        seed: int = 0,
    ) -> NCPWiring:
        """Random, the same for the same arguments. A neuron the draw left out is joined to one neighbour of the layer before or after it.

        Args:
            inputs, inter, command, motor: neurons a layer.
            sensory_fan_out: inter neurons each input feeds.
            inter_fan_out: command neurons each inter neuron feeds.
            command_recurrent: draws of a synapse between two command neurons (a pair drawn twice counts once).
            motor_fan_in: command neurons each motor neuron hears.

        Raises:
            ValueError: an empty layer, or a fan that is larger than the layer it ends in.
        """
        for name, size in (("inputs", inputs), ("inter", inter), ("command", command), ("motor", motor)):
            if size < 1:
                raise ValueError(f"NCPWiring: expected at least 1 neuron in {name}, got {size}")
        fans = (
            ("sensory_fan_out", sensory_fan_out, inter),
            ("inter_fan_out", inter_fan_out, command),
            ("motor_fan_in", motor_fan_in, command),
        )
        for name, fan, most in fans:
            if not 1 <= fan <= most:
                raise ValueError(f"NCPWiring: expected {name} in 1..{most}, the neurons it can reach, got {fan}")
        draw = torch.Generator().manual_seed(seed)
        commands = range(motor, motor + command)
        inters = range(motor + command, motor + command + inter)
        into_inter = _fan(range(inputs), inters, sensory_fan_out, draw)
        among = _fan(inters, commands, inter_fan_out, draw)
        for pre, post in torch.randint(command, (command_recurrent, 2), generator=draw).tolist():
            among.add((commands[pre], commands[post]))
        among |= {(pre, post) for post, pre in _fan(range(motor), commands, motor_fan_in, draw)}
        return cls(inputs, motor + command + inter, motor, _signed(into_inter, draw), _signed(among, draw))

    @classmethod
    def dense(cls, inputs: int, units: int, *, seed: int = 0) -> NCPWiring:
        """Every input and every neuron feeds every neuron; a third of the synapses inhibit."""
        draw = torch.Generator().manual_seed(seed)

        def polarity(sources: int) -> Sequence[Sequence[int]]:
            signs: list[list[int]] = (1 - 2 * (torch.randint(3, (sources, units), generator=draw) == 0).long()).tolist()
            return signs

        return cls.from_dense(polarity(units), polarity(inputs))

    @classmethod
    def from_dense(
        cls, adjacency: Sequence[Sequence[int]], sensory_adjacency: Sequence[Sequence[int]], *, motor: int | None = None
    ) -> NCPWiring:
        """Take a wiring over, for instance from ncps: (units, units) and (inputs, units) of -1, 0, +1, row feeds column.

        Raises:
            ValueError: the matrices do not fit each other, or hold another number.
        """
        among, sensory = torch.as_tensor(adjacency), torch.as_tensor(sensory_adjacency)
        if among.dim() != 2 or sensory.dim() != 2 or among.shape[0] != among.shape[1] or sensory.shape[1] != among.shape[1]:
            raise ValueError(
                f"NCPWiring: expected adjacency (units, units) and sensory_adjacency (inputs, units), "
                f"got {tuple(among.shape)} and {tuple(sensory.shape)}"
            )
        units = among.shape[0]
        return cls(sensory.shape[0], units, units if motor is None else motor, _listed(sensory), _listed(among))


def _fan(sources: range, targets: range, fan_out: int, draw: torch.Generator) -> set[tuple[int, int]]:
    """Each source feeds `fan_out` different targets; a target nobody chose gets one source."""
    pairs = {(pre, targets[i]) for pre in sources for i in torch.randperm(len(targets), generator=draw)[:fan_out].tolist()}
    for post in sorted(set(targets) - {post for _, post in pairs}):
        pairs.add((sources[int(torch.randint(len(sources), (), generator=draw))], post))
    return pairs


def _signed(pairs: set[tuple[int, int]], draw: torch.Generator) -> Synapses:
    ordered = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    signs = 2 * torch.randint(2, (len(ordered),), generator=draw) - 1
    return Synapses(tuple(pre for pre, _ in ordered), tuple(post for _, post in ordered), tuple(signs.tolist()))


def _listed(matrix: Tensor) -> Synapses:
    if not bool(((matrix == 0) | (matrix.abs() == 1)).all()):
        raise ValueError(f"NCPWiring: expected polarities -1, 0 or +1, got {sorted(set(matrix.flatten().tolist()) - {-1, 0, 1})}")
    post, pre = matrix.t().nonzero(as_tuple=True)
    return Synapses(tuple(pre.tolist()), tuple(post.tolist()), tuple(int(p) for p in matrix[pre, post].tolist()))


class WiringSeal(nn.Module):
    """Goes into a state dict with the cell, so that weights of another wiring with the same shapes are refused."""

    digest: Tensor

    def __init__(self, wiring: NCPWiring) -> None:
        super().__init__()
        synapses = repr((wiring.sensory, wiring.recurrent)).encode()
        self.register_buffer("digest", torch.tensor(int.from_bytes(hashlib.sha256(synapses).digest()[:7], "big")))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401 - torch's signature
        saved = state.get(f"{prefix}digest")
        if saved is not None and int(saved) != int(self.digest):
            # torch collects these and raises them together.
            rest[-1].append(f"{prefix}digest: expected weights of the same wiring ({int(self.digest):x}), got those of {int(saved):x}")
        super()._load_from_state_dict(state, prefix, *rest)
