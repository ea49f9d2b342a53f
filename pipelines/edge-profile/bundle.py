"""The nets and numbers that `undercurrent export` wrote beside this file: a folder in, answers of its nets out. Used by the others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Float = NDArray[np.float32]


class Bundle:
    """The nets of a folder and the numbers of its profile; holds no state of any video."""

    def __init__(self, folder: Path) -> None:
        self.profile: dict[str, Any] = json.loads((folder / "profile.json").read_text("utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._sessions = {}
        for name, net in self.profile["nets"].items():
            content = (folder / net["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != net["sha256"]:
                raise SystemExit(f"{net['file']} is damaged or of another bundle: expected sha256 {net['sha256']}")
            self._sessions[name] = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, net: str, outputs: list[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The named outputs of one net."""
        answer: list[NDArray[Any]] = self._sessions[net].run(outputs, inputs)
        return answer
