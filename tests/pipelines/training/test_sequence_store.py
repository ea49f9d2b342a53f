"""Sequences survive the disk bit by bit; anything else under their name is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.training.sequence_store import load_sequences, save_sequences
from pipelines.training.sequences import Sequence


def _sequences() -> list[Sequence]:
    rng = np.random.default_rng(0)
    return [
        Sequence(
            f"person {i}",
            i % 2,
            "drift" if i % 2 else "real",
            np.cumsum(rng.uniform(0.01, 0.1, size)),
            rng.normal(size=(size, 8)).astype(np.float32),
            rng.normal(size=size).astype(np.float32),
            np.full(size, i % 2, dtype=np.float32),
        )
        for i, size in enumerate((5, 1, 17))
    ]


def test_sequences_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    save_sequences(path, _sequences())
    for one, back in zip(_sequences(), load_sequences(path), strict=True):
        assert (one.identity, one.label, one.kind) == (back.identity, back.label, back.kind)
        for name in ("t", "embedding", "artefact", "frame_label"):
            np.testing.assert_array_equal(getattr(one, name), getattr(back, name))
            assert getattr(one, name).dtype == getattr(back, name).dtype
    assert [file.name for file in tmp_path.iterdir()] == ["s.npz"]


def test_what_holds_no_sequences_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    with pytest.raises(SourceNotFound, match="missing"):
        load_sequences(path)
    path.write_bytes(b"PK\x03\x04 not a zip after all")
    with pytest.raises(UnsupportedMedia, match="holds no sequences"):
        load_sequences(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UnsupportedMedia, match="arrays other"):
        load_sequences(path)
    save_sequences(path, _sequences())
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UnsupportedMedia):
        load_sequences(path)


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    save_sequences(path, _sequences())
    with np.load(path) as data:
        arrays = dict(data)
    arrays["artefact"] = arrays["artefact"][:-1]
    np.savez(path, **arrays)
    with pytest.raises(UnsupportedMedia, match="23 moments"):
        load_sequences(path)
