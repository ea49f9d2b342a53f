"""Where the CPU time goes: stages entered and left, StageTimes out. Owned by one analysis; read by `--profile`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.verdict import StageTime


class StageClock:
    """Adds up CPU seconds by stage; the stages do not nest.

    Args:
        cpu_s: whose: this process's, or, where several threads have clocks, `time.thread_time`.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._cpu_s = cpu_s
        self._spent: dict[str, tuple[float, int]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as one call of stage `name`."""
        before = self._cpu_s()
        try:
            yield
        finally:
            spent, calls = self._spent.get(name, (0.0, 0))
            self._spent[name] = (spent + self._cpu_s() - before, calls + 1)

    def add(self, name: str, cpu_s: float) -> None:
        """Count CPU seconds that another process spent for stage `name`."""
        spent, calls = self._spent.get(name, (0.0, 0))
        self._spent[name] = (spent + cpu_s, calls)

    def times(self) -> tuple[StageTime, ...]:
        """The stages in the order in which they were first entered."""
        return tuple(StageTime(name, spent, calls) for name, (spent, calls) in self._spent.items())
