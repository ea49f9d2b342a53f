"""People for tests to make pseudo-fakes of, in motion and still, and an Example of one of them."""

from __future__ import annotations

import numpy as np

from pipelines.training.example import Example, draw_example
from pipelines.training.pseudo_fakes import Kind
from tests.pipelines.training.portrait import portrait

PEOPLE = [portrait("ann"), portrait("ben")]
STILLS = [portrait("ann", frames=1), portrait("ben", frames=1)]


def example(kind: Kind, seed: int = 0, *, moving: bool = True, partial: bool = False) -> Example:
    """An Example of ann or ben, the same for the same seed."""
    return draw_example(PEOPLE, np.random.default_rng(seed), kind=kind, moving=moving, partial=partial)
