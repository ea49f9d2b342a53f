"""The pool: seeds come in, mutants go out; a mutant that ended as none before it becomes a seed, so that the search goes where it is new.

It lies on disk, because the fuzzer measures the memory of its own process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

from tests.fuzz.mutators import mutate
from tests.fuzz.trial import Outcome

MOST = 4000
LARGEST = 64 * 1024


class Pool:
    """Draws a seed (half of the time one of the sixteen newest), a stranger to splice from, and mutates."""

    def __init__(self, folder: Path, seeds: Iterable[bytes], rng: Random) -> None:
        folder.mkdir()
        self._folder, self._rng = folder, rng
        self._seen: set[tuple[str, int, tuple[str, ...]]] = set()
        self.size = 0
        for data in seeds:
            self._add(data)

    def draw(self) -> bytes:
        """A new input."""
        recent = self._rng.random() < 0.5
        return mutate(self._read(self._rng.randrange(max(0, self.size - 16) if recent else 0, self.size)), self._any(), self._rng)

    def learn(self, data: bytes, outcome: Outcome) -> bool:
        """Take `data` in if nothing ended like it before; returns whether that is so."""
        if outcome.signature in self._seen:
            return False
        self._seen.add(outcome.signature)
        if len(data) <= LARGEST and self.size < MOST:
            self._add(data)
        return True

    @property
    def signatures(self) -> int:
        """How many different ways of ending were seen."""
        return len(self._seen)

    def _any(self) -> bytes:
        return self._read(self._rng.randrange(self.size))

    def _read(self, i: int) -> bytes:
        return (self._folder / str(i)).read_bytes()

    def _add(self, data: bytes) -> None:
        (self._folder / str(self.size)).write_bytes(data)
        self.size += 1
