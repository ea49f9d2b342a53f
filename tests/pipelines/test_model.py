"""A weights file that says something else than it holds is refused with a typed error before anything is built from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import WeightsError, load_checkpoint, save_checkpoint
from pipelines.model import Model, load_model, shipped_weights


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ({"temporal": None}, "does not say how its temporal is built"),
        ({"temporal": [1]}, "does not say how its temporal is built"),
        ({"encoder": None}, "does not say how its encoder is built"),
        ({"encoder": {"a": 1}}, "encoder is none that this version can build"),
        ({"temporal": {"inputs": 128, "units": 40, "cell": "gru"}}, "temporal head is none that this version can build"),
        ({"temporal": {"inputs": True, "units": 40}}, "temporal head is none that this version can build"),
        ({"temporal": {"inputs": 128, "units": 10**6}}, "temporal head is none that this version can build"),
        ({"temporal": {"inputs": 128, "units": 41}}, "has another shape than this TemporalHead's"),
        ({"temporal": {"inputs": 128, "units": 40, "cell": "cfc"}}, "are not those of this TemporalHead"),
    ],
)
def test_dims_that_do_not_fit_are_a_typed_error(model: Model, tmp_path: Path, dims: dict[str, Any], said: str) -> None:
    metadata = load_checkpoint(shipped_weights()).metadata
    nets = {"encoder": model.encoder, "temporal": model.temporal, "calibrator": model.calibrator}
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, nets, {**metadata, "dims": {**metadata["dims"], **dims}})
    with pytest.raises(WeightsError, match=said):
        load_model(path)


def test_what_fits_judges(model: Model, tmp_path: Path) -> None:
    """Dims without `cell` are those of checkpoints older than it."""
    metadata = load_checkpoint(shipped_weights()).metadata
    older = {name: value for name, value in metadata["dims"]["temporal"].items() if name != "cell"}
    path = tmp_path / "same.safetensors"
    nets = {"encoder": model.encoder, "temporal": model.temporal, "calibrator": model.calibrator}
    save_checkpoint(path, nets, {**metadata, "dims": {**metadata["dims"], "temporal": older}})
    assert load_model(path).temporal.dims == {"inputs": 128, "units": 40, "cell": "liquid"}
