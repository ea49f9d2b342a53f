"""Where the CPU time goes: stages entered and left, StageTimes out. Owned by one analysis; read by `--profile`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.verdict import StageTime


class StageClock:
    """Adds up this process's CPU seconds by stage; the stages do not nest."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[float, int]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as one call of stage `name`."""
        before = time.process_time()
        try:
            yield
        finally:
            spent, calls = self._spent.get(name, (0.0, 0))
            self._spent[name] = (spent + time.process_time() - before, calls + 1)

    def add(self, name: str, cpu_s: float) -> None:
        """Count CPU seconds that another process spent for stage `name`."""
        spent, calls = self._spent.get(name, (0.0, 0))
        self._spent[name] = (spent + cpu_s, calls)

    def times(self) -> tuple[StageTime, ...]:
        """The stages in the order in which they were first entered."""
        return tuple(StageTime(name, spent, calls) for name, (spent, calls) in self._spent.items())
