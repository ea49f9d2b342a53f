"""Two small seeded nets and their inputs in, two golden files out: `python -m tests.golden.renew` after a wanted change of the numbers.

`tests/models/test_liquid.py` and `test_temporal.py` hold today's code to what these files say.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.liquid import LiquidCell
from models.temporal import TemporalHead

HERE = Path(__file__).parent
STEPS, ROWS = 12, 3


def liven(module: nn.Module, seed: int) -> None:
    """Move every parameter off its start, so that no golden number hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def inputs(components: int, seed: int) -> dict[str, Tensor]:
    """Inputs with what streams bring: a first frame, duplicates, long gaps, a row without a face."""
    generator = torch.Generator().manual_seed(seed)
    dt = 0.04 * torch.rand((STEPS, ROWS, 1), generator=generator)
    dt[0], dt[4, 1], dt[7, 2] = torch.inf, 0.0, 2.5
    mask = torch.ones((STEPS, ROWS), dtype=torch.bool)
    mask[5, 0] = mask[0, 2] = False
    return {"x": torch.randn((STEPS, ROWS, components), generator=generator), "dt": dt, "mask": mask}


def renew() -> None:
    """Write both files with what the code computes now."""
    torch.manual_seed(3)
    cell = LiquidCell(5, 4)
    liven(cell, 4)
    given = inputs(5, 5)
    with torch.inference_mode():
        h, _ = cell(given["x"], given["dt"], cell.init(ROWS), given["mask"])
    save_file({**given, "h": h, **{f"cell.{k}": v for k, v in cell.state_dict().items()}}, HERE / "liquid_cell.safetensors")

    head = TemporalHead(6, 4)
    liven(head, 6)
    given = inputs(6, 7)
    with torch.inference_mode():
        outputs, state = head(given["x"], given["dt"], given["mask"])
    answers = {k: v.contiguous() for k, v in {**outputs._asdict(), "h": state.h, "k": state.k}.items()}
    save_file({**given, **answers, **{f"head.{k}": v for k, v in head.state_dict().items()}}, HERE / "temporal_head.safetensors")


if __name__ == "__main__":
    renew()
