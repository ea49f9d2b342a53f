"""What every test starts from: one thread, the same seeds, and no clock that could fail it."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings


def pytest_configure() -> None:
    torch.set_num_threads(1)  # sums in one order, and room for whoever shares the machine
    settings.register_profile("undercurrent", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("undercurrent")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers alone and after any other test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
