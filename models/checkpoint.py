"""Checkpoint: modules and facts in, one hash-checked safetensors file out, and back. Training saves; `pipelines/analysis.py` loads.

Tensors and JSON only: nothing in the file can run. The file's line in SHA256SUMS beside it (what `sha256sum -c` reads) is the proof
that it arrived whole. This module knows no architecture: whoever loads builds the nets from `metadata["dims"]`, then calls `restore`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from models.errors import Refusal

SUMS_NAME = "SHA256SUMS"
METADATA_KEY = "undercurrent"
REQUIRED_METADATA: Mapping[str, type] = {
    "dims": dict,
    "crop_version": int,
    "data_digest": str,
    "commit": str,
    "created": str,
    "version": str,
}


class WeightsError(Refusal):
    """A checkpoint cannot be trusted or does not fit."""

    slug: ClassVar[str] = "bad-weights"
    title: ClassVar[str] = "The model's weights cannot be used"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The content of one checkpoint file."""

    tensors: dict[str, dict[str, Tensor]]
    """Module name -> its state dict, on the CPU."""
    metadata: dict[str, Any]
    """At least the keys of REQUIRED_METADATA."""
    sha256: str
    """Of the whole file, 64 hexadecimal digits."""

    def restore(self, module: nn.Module, name: str) -> None:
        """Copy the tensors saved as `name` into `module`; WeightsError unless every name and shape agrees."""
        if name not in self.tensors:
            raise WeightsError(f"The checkpoint holds no module {name!r}.", expected=name, got=_listed(self.tensors))
        saved = self.tensors[name]
        wanted = module.state_dict()
        missing, extra = wanted.keys() - saved.keys(), saved.keys() - wanted.keys()
        if missing or extra:
            raise WeightsError(
                f"The tensors of {name!r} are not those of this {type(module).__name__}.",
                expected=f"{len(wanted)} tensors, missing {_listed(missing)}",
                got=f"{len(saved)} tensors, unknown {_listed(extra)}",
            )
        for key, tensor in wanted.items():
            if tensor.shape != saved[key].shape:
                raise WeightsError(
                    f"The tensor {name}.{key} has another shape than this {type(module).__name__}'s.",
                    expected=str(tuple(tensor.shape)),
                    got=str(tuple(saved[key].shape)),
                )
        module.load_state_dict(saved)


def save_checkpoint(path: str | os.PathLike[str], modules: Mapping[str, nn.Module], metadata: Mapping[str, Any]) -> str:
    """Write the state of `modules` and `metadata` (JSON values, keys of REQUIRED_METADATA at least) to `path`; returns the sha256.

    The file and its line in SHA256SUMS are each replaced whole: a crash between the two leaves a file that load refuses.

    Raises:
        WeightsError: the metadata is incomplete.
        ValueError: a module's name is empty or contains a dot.
    """
    path = Path(path)
    _check_metadata(metadata, path)
    for name in modules:
        if not name or "." in name:
            raise ValueError(f"module name: expected a word without dots, got {name!r}")
    # Cloned, because safetensors refuses tensors that share memory.
    tensors = {f"{name}.{key}": t.detach().cpu().clone().contiguous() for name, m in modules.items() for key, t in m.state_dict().items()}
    data = safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
    digest = hashlib.sha256(data).hexdigest()
    _replace(path, data)
    sums_path = path.with_name(SUMS_NAME)
    sums = {**_read_sums(sums_path), path.name: digest}
    _replace(sums_path, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())).encode())
    return digest


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a checkpoint; WeightsError when it is missing, unlisted, altered, not safetensors, or lacks metadata."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"There are no weights at {path}.", expected="a safetensors file", got="a directory" if path.is_dir() else "nothing"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read.", expected="a readable file", got=str(error)) from error
    digest = hashlib.sha256(data).hexdigest()
    listed = _read_sums(path.with_name(SUMS_NAME)).get(path.name)
    if listed is None:
        raise WeightsError(f"{path} has no checksum to be checked against.", expected=f"a line for {path.name} in {SUMS_NAME}", got="none")
    if listed != digest:
        raise WeightsError(f"{path} is damaged or was exchanged.", expected=f"sha256 {listed}", got=digest)
    try:
        flat = safetensors.torch.load(data)
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be read.", expected="safetensors", got=str(error)) from error
    metadata = _metadata_of(data, path)
    tensors: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in flat.items():
        module, dot, key = full_name.partition(".")
        if not dot:
            raise WeightsError(f"A tensor of {path} belongs to no module.", expected="names like module.key", got=repr(full_name))
        tensors.setdefault(module, {})[key] = tensor
    return Checkpoint(tensors, metadata, digest)


def _metadata_of(data: bytes, path: Path) -> dict[str, Any]:
    # The layout of safetensors: 8 bytes of length, little endian, then that much JSON. It parsed above, so it is there.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(METADATA_KEY)
    if text is None:
        raise WeightsError(f"{path} says nothing about itself.", expected=f"metadata under {METADATA_KEY!r}", got="none")
    try:
        metadata = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"The metadata of {path} cannot be read.", expected="JSON", got=str(error)) from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"The metadata of {path} cannot be read.", expected="a JSON object", got=type(metadata).__name__)
    _check_metadata(metadata, path)
    return metadata


def _check_metadata(metadata: Mapping[str, Any], path: Path) -> None:
    wrong = [key for key, kind in REQUIRED_METADATA.items() if type(metadata.get(key)) is not kind]
    if wrong:
        raise WeightsError(
            f"The metadata of {path} is incomplete.",
            expected=", ".join(f"{key} ({REQUIRED_METADATA[key].__name__})" for key in wrong),
            got=", ".join(f"{key} = {metadata.get(key)!r}" for key in wrong),
        )


def _read_sums(path: Path) -> dict[str, str]:
    """File name -> sha256, from lines as sha256sum writes them (a star marks binary mode)."""
    if not path.is_file():
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {pair[1].removeprefix("*"): pair[0].lower() for pair in pairs if len(pair) == 2}


def _replace(path: Path, data: bytes) -> None:
    """Write beside `path`, flush to the disk, then rename over it: readers see the old bytes or the new, never half."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)  # made 0600; a service may run as another user than the trainer
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "") if ordered else "none"
