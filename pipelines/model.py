"""Model: the four nets of one checkpoint, ready to judge. A weights file in; shared read-only by every Analysis of the process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch

from models.calibration import Calibrator
from models.checkpoint import WeightsError, load_checkpoint
from models.compiled_step import CompiledStep
from models.encoder import FaceEncoder
from models.eye import Eye
from models.face_detector import FaceDetector
from models.slots import Step
from models.temporal import TemporalHead
from pipelines.devices import devices
from pipelines.faces import CROP_PX, CROP_VERSION
from pipelines.verdict import ModelInfo

SHIPPED_WEIGHTS: Final = "undercurrent-3.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Parameters only; every stream keeps its own state."""

    detector: FaceDetector
    encoder: FaceEncoder
    temporal: TemporalHead
    calibrator: Calibrator
    info: ModelInfo
    device: torch.device
    eye: Eye = field(init=False)
    """The encoder as serving looks through it."""
    step: Step = field(init=False)
    """The temporal head's step as serving takes it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "eye", Eye(self.encoder))
        compiled = CompiledStep.supports(self.temporal)
        object.__setattr__(self, "step", CompiledStep(self.temporal) if compiled else self.temporal.step)


def shipped_weights() -> Path:
    """Where the weights that come with the code are."""
    return Path(str(files("models"))) / "weights" / SHIPPED_WEIGHTS


def load_model(weights: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> Model:
    """Load a checkpoint (default: the shipped one) for the first of the devices that `device` names (`pipelines/devices.py`).

    Raises:
        WeightsError: it is missing, damaged, of another crop version or unknown dimensions.
        DeviceMissing: `device` is not there.
    """
    where = devices(device)[0]
    path = shipped_weights() if weights is None else Path(weights)
    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata
    if metadata["crop_version"] != CROP_VERSION:
        raise WeightsError(
            f"{path.name} was trained on crops of another version.",
            expected=f"crop version {CROP_VERSION}",
            got=str(metadata["crop_version"]),
        )
    encoder = FaceEncoder.from_metadata(_dims(metadata, "encoder"))
    temporal = TemporalHead.from_metadata(_dims(metadata, "temporal"))
    calibrator = Calibrator()
    checkpoint.restore(encoder, "encoder")
    checkpoint.restore(temporal, "temporal")
    checkpoint.restore(calibrator, "calibrator")
    if encoder.dims.crop_px != CROP_PX:
        raise WeightsError(f"{path.name} looks at crops of another size.", expected=f"{CROP_PX} px", got=f"{encoder.dims.crop_px} px")
    for net in (encoder, temporal, calibrator):
        net.eval().requires_grad_(False)
    return Model(
        detector=FaceDetector().to(where),
        encoder=encoder.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]  # torch's stub lacks this form
        temporal=temporal.to(where),
        calibrator=calibrator,
        info=ModelInfo(
            name="undercurrent",
            version=str(metadata["version"]),
            weights_sha256=checkpoint.sha256,
            crop_version=CROP_VERSION,
            calibration_id=f"{metadata['version']}-{checkpoint.sha256[:8]}",
        ),
        device=where,
    )


def load_models(weights: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> list[Model]:
    """The same for every device that `device` names, one Model each; raises as `load_model` does."""
    return [load_model(weights, device=str(one)) for one in devices(device)]


def _dims(metadata: Mapping[str, Any], net: str) -> dict[str, Any]:
    dims = metadata["dims"].get(net)
    if not isinstance(dims, dict):
        raise WeightsError(f"The checkpoint does not say how its {net} is built.", expected=f"dims of {net!r}", got=repr(dims))
    return dims
