"""What the tests of the pipelines share: the shipped weights, loaded once."""

from __future__ import annotations

import pytest

from pipelines.model import Model, load_model


@pytest.fixture(scope="session")
def model() -> Model:
    return load_model()
