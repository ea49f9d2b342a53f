"""What a result is made with besides media: settings and a model come in, a digest goes out. Used by `judging.py` and `admission.py`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from pipelines.analysis import Model
from service import __version__
from service.settings import Settings


def recipe(settings: Settings, model: Model) -> str:
    """Equal bytes and equal digests make equal results; the device is no part of it."""
    parts = {"version": __version__, "weights": model.info.weights_sha256, "hz": settings.hz, "limits": asdict(settings.limits)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
