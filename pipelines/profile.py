"""Where CPU time goes: stages entered and left, StageTimes out. Owned by an analysis, for `--profile`; summed over all for `/metrics`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.verdict import StageTime


class StageTotal:
    """What many clocks spent together, those that are gone too. May be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, tuple[float, int]] = {}

    def add(self, name: str, cpu_s: float, *, calls: int = 0) -> None:
        """Count CPU seconds of stage `name`."""
        with self._lock:
            spent, before = self._spent.get(name, (0.0, 0))
            self._spent[name] = (spent + cpu_s, before + calls)

    def times(self) -> tuple[StageTime, ...]:
        """The stages until now."""
        with self._lock:
            return tuple(StageTime(name, spent, calls) for name, (spent, calls) in self._spent.items())


class StageClock:
    """Adds up CPU seconds by stage; the stages do not nest.

    Args:
        cpu_s: whose: this process's, or, where several threads have clocks, `time.thread_time`.
        total: where they are added too, at once, for a clock that may run for weeks.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.process_time, *, total: StageTotal | None = None) -> None:
        self._cpu_s = cpu_s
        self._total = total
        self._spent: dict[str, tuple[float, int]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as one call of stage `name`."""
        before = self._cpu_s()
        try:
            yield
        finally:
            self.add(name, self._cpu_s() - before, calls=1)

    def add(self, name: str, cpu_s: float, *, calls: int = 0) -> None:
        """Count CPU seconds of stage `name`; without a call, those that another process spent for it."""
        spent, before = self._spent.get(name, (0.0, 0))
        self._spent[name] = (spent + cpu_s, before + calls)
        if self._total is not None:
            self._total.add(name, cpu_s, calls=calls)

    def times(self) -> tuple[StageTime, ...]:
        """The stages in the order in which they were first entered."""
        return tuple(StageTime(name, spent, calls) for name, (spent, calls) in self._spent.items())
