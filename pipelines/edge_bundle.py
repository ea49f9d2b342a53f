"""The edge profile: a Model in, the files of a folder that judges without torch out. Written to disk by `service/cli_export.py`.

Nets as ONNX, every number that judging needs in `profile.json`, and an example in plain Python. What the example is made of lies in
`edge-profile/`, which no package of this house imports, nor it any of them: a test holds its scores against `analysis.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from importlib.metadata import distribution
from importlib.resources import files
from typing import Any, Final

from models.calibration import Calibrator
from models.compiled import OPSET, Port, ports
from models.compiled_step import step_bytes
from models.eye import encoder_bytes
from models.face_detector import (
    CASCADE_THRESHOLDS,
    CELL_PX,
    OVERLAP,
    PYRAMID_STEP,
    REFINE_THRESHOLD_O,
    REFINE_THRESHOLD_R,
    SCALE_OVERLAP,
    STRIDE_PX,
)
from pipelines import faces, judgement, quality, tracks
from pipelines.model import Model

FORMAT: Final = 1
"""Of profile.json: another number, other keys."""
EXAMPLE: Final = ("README.md", "bundle.py", "cascade.py", "detect.py", "following.py")
NETS: Final = ("memory", "encoder", "pnet", "rnet", "onet")
MTCNN_LICENCE: Final = "LICENSE-mtcnn.md"
FILES: Final = (*(f"{net}.onnx" for net in NETS), *EXAMPLE, MTCNN_LICENCE, "profile.json")
"""In the order of `edge_files`."""
LICENCE: Final = (
    "Encoder, memory, calibration and example: Apache-2.0, the Undercurrent authors. pnet, rnet and onet: the MTCNN weights of "
    "facenet-pytorch 2.5.3, MIT, Copyright 2019 Timothy Esler."
)


def edge_files(model: Model) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file; the profile comes last, so that a folder without one is not finished.

    Raises:
        CannotCompile: the model is not on a CPU, or its memory is of a cell that cannot be exported.
    """
    graphs = {"memory": step_bytes(model.temporal), "encoder": encoder_bytes(model.encoder), **model.detector.exported()}
    nets: dict[str, dict[str, Any]] = {}
    for name in NETS:
        graph = graphs[name]
        inputs, outputs = ports(graph)
        nets[name] = {
            "file": f"{name}.onnx",
            "bytes": len(graph),
            "sha256": hashlib.sha256(graph).hexdigest(),
            "opset": OPSET,
            "inputs": [_port(one) for one in inputs],
            "outputs": [_port(one) for one in outputs],
        }
        yield f"{name}.onnx", graph
    for name in EXAMPLE:
        yield name, (files("pipelines") / "edge-profile" / name).read_bytes()
    yield MTCNN_LICENCE, _licence_of_mtcnn()
    yield "profile.json", (json.dumps(_profile(model, nets), indent=1, allow_nan=False) + "\n").encode()


def _licence_of_mtcnn() -> bytes:
    """What MIT wants to go along with the weights."""
    (path,) = (path for path in distribution("facenet-pytorch").files or () if path.name == "LICENSE.md")
    return path.read_binary()


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


def _profile(model: Model, nets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    info = model.info
    return {
        "format": FORMAT,
        "licence": LICENCE,
        "weights": {"name": info.name, "version": info.version, "sha256": info.weights_sha256, "calibration_id": info.calibration_id},
        "nets": nets,
        "crop": {"version": faces.CROP_VERSION, "px": faces.CROP_PX, "template": faces.TEMPLATE.tolist()},
        "cascade": {
            "width_px": faces.DETECT_WIDTH_PX,
            "smallest_face_px": faces.SMALLEST_FACE_PX,
            "min_face_px": list(faces.MIN_FACE_PX),
            "sure": list(CASCADE_THRESHOLDS),
            "refine_sure": [REFINE_THRESHOLD_R, REFINE_THRESHOLD_O],
            "scale_overlap": SCALE_OVERLAP,
            "overlap": OVERLAP,
            "pyramid_step": PYRAMID_STEP,
            "cell_px": CELL_PX,
            "stride_px": STRIDE_PX,
        },
        "following": {
            "find_every_s": tracks.FIND_EVERY_S,
            "afresh_every_s": tracks.AFRESH_EVERY_S,
            "forget_after_s": tracks.FORGET_AFTER_S,
            "predict_at_most_s": tracks.PREDICT_AT_MOST_S,
            "min_confidence": tracks.MIN_CONFIDENCE,
            "same_face_iou": tracks.SAME_FACE_IOU,
            "cut_level": tracks.CUT_LEVEL,
            "thumbnail_px": tracks.THUMBNAIL_PX,
            "thumbnail_samples": tracks.SAMPLES,
        },
        "quality": {
            "min_face_px": quality.MIN_JUDGED_PX,
            "min_luma": quality.MIN_LUMA,
            "min_luma_spread": quality.MIN_LUMA_SPREAD,
            "max_nose_offset": quality.MAX_NOSE_OFFSET,
            "min_sharpness": quality.MIN_SHARPNESS,
            "inner": [[side.start, side.stop] for side in quality.INNER],
        },
        "memory": {"embedding": model.temporal.inputs, "units": model.temporal.units},
        "calibration": _calibration(model.calibrator),
        "conclusion": {"min_moments": judgement.MIN_MOMENTS, "min_track_s": judgement.MIN_TRACK_S},
    }


def _calibration(calibrator: Calibrator) -> dict[str, Any]:
    track, stretch, doubt = calibrator.thresholds.tolist()
    farthest = float(calibrator.farthest)
    return {
        "weight": calibrator.weight.tolist(),
        "covariance": calibrator.covariance.tolist(),
        "artefact_tau_s": float(calibrator.artefact_tau_s),
        "surprise_unit": float(calibrator.surprise_unit),
        "thresholds": {"track": track, "stretch": stretch, "doubt": doubt},
        "farthest": farthest if math.isfinite(farthest) else None,  # JSON has no infinity
        "target_fpr": float(calibrator.target_fpr),
    }
