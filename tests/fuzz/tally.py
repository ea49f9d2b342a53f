"""The tally: Outcomes come in, totals go out as a table for people and as JSON for programs, one line of JSON an input on the way."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from tests.fuzz.trial import HUNG, UNTYPED, Outcome, resident_mb

WARM_UP = 20
MOST_GROWTH_MB = 50.0
SHARED_MEMORY = Path("/dev/shm")


class Tally:
    """Counts; keeps what is bad under `keep`; measures this process after a warm-up."""

    def __init__(self, records: IO[str] | None, keep: Path | None) -> None:
        self.inputs = 0
        self.ended: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.touched: Counter[str] = Counter()
        self.unlawful: Counter[str] = Counter()
        self.findings: list[dict[str, Any]] = []
        self.slowest: list[tuple[float, str]] = []
        self._records, self._keep = records, keep
        self._start = time.monotonic()
        self._base = self._most = _usage()

    def add(self, name: str, path: Path, outcome: Outcome, touched: list[str]) -> None:
        """One input that was read."""
        self.inputs += 1
        self.ended[outcome.ended] += 1
        if outcome.death is not None:
            self.deaths[outcome.death] += 1
        if outcome.unlawful is not None:
            self.unlawful[outcome.unlawful] += 1
        self.touched.update(touched)
        self.slowest = sorted([*self.slowest, (round(outcome.wall_s, 3), name)], reverse=True)[:10]
        record = {"name": name, **asdict(outcome), "touched": touched}
        if (outcome.bad or touched) and len(self.findings) < 200:
            self.findings.append(record)
        if self._keep is not None and (outcome.bad or touched or outcome.slow):
            shutil.copyfile(path, self._keep / f"{outcome.slug}-{self.inputs}-{name}".replace("/", "_"))
        if self._records is not None:
            self._records.write(json.dumps(record) + "\n")
        if self.inputs == WARM_UP:
            self._base = self._most = _usage()
        elif self.inputs % WARM_UP == 0:
            self._most = {key: max(value, self._most[key]) for key, value in _usage().items()}

    def totals(self) -> dict[str, Any]:
        """The numbers that a run is judged by."""
        usage, spent = _usage(), time.monotonic() - self._start
        return {
            "inputs": self.inputs,
            "seconds": round(spent, 1),
            "inputs_per_s": round(self.inputs / spent, 2),
            "outcomes": dict(self.ended.most_common()),
            "parent_crashes": self.ended[UNTYPED],
            "hangs": self.ended[HUNG],
            "canary_reads": sum(self.touched.values()),
            "touched": dict(self.touched),
            "child_deaths": dict(self.deaths),
            "unlawful": dict(self.unlawful),
            "rss_growth_mb": round(usage["rss_mb"] - self._base["rss_mb"], 1),
            "rss_most_growth_mb": round(self._most["rss_mb"] - self._base["rss_mb"], 1),
            "descriptor_growth": usage["descriptors"] - self._base["descriptors"],
            "shared_memory_growth": usage["shared_memory"] - self._base["shared_memory"],
            "slowest": self.slowest,
        }

    def failed(self) -> bool:
        """Whether the promise of the sandbox was broken."""
        totals = self.totals()
        broken = totals["parent_crashes"] or totals["hangs"] or totals["canary_reads"] or totals["unlawful"]
        return bool(broken) or totals["rss_growth_mb"] >= MOST_GROWTH_MB

    def show(self, console: Console, title: str) -> None:
        """Print the totals and the first findings."""
        table = Table("what", "how much", title=title)
        for name, value in self.totals().items():
            if isinstance(value, dict):
                for part, number in value.items():
                    table.add_row(f"{name}: {part}", str(number))
            elif name != "slowest":
                table.add_row(name, str(value))
        for seconds, name in self.slowest[:3]:
            table.add_row(f"slowest: {name}", f"{seconds:.2f} s")
        console.print(table)
        for finding in self.findings[:20]:
            console.print(f"{finding['name']}: {finding['ended']}, {finding['detail']}", markup=False)


def _usage() -> dict[str, float]:
    """What this process holds."""
    return {
        "rss_mb": resident_mb(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "shared_memory": len(list(SHARED_MEMORY.iterdir())) if SHARED_MEMORY.is_dir() else 0,
    }
