"""`python -m tests.fuzz`: reads the corpus and then mutants of its good clips through the sandbox, and fails where that broke a promise.

Exit status 1: something other than a typed refusal came out, a read never ended, a file or host that an input names was touched, a frame
was not what was promised, or this process grew by 50 MB or more.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from rich.console import Console

from service.media_sandbox import MediaSandbox
from tests.fuzz.corpus import bait, canaries, corpus
from tests.fuzz.pool import Pool
from tests.fuzz.seeds import SEEDS, write_seed
from tests.fuzz.tally import Tally
from tests.fuzz.trial import LIMITS, Outcome, attempt
from tests.fuzz.watch import Watch, watch

MUTATED = tuple(name for name in SEEDS if name.endswith(("mp4", "mkv", "webm", "ts")))


class Forward:
    """Bytes that cannot go back, as from a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, n: int) -> bytes:
        """At most 1000 bytes, as a network would give them."""
        return self._data.read(min(n, 1000))


def read(sandbox: MediaSandbox, source: Path | io.BytesIO | Forward, private: Path) -> Outcome:
    """Every frame of one input."""
    return attempt(lambda: sandbox.read_frames(source, hz=None, limits=LIMITS), private=private)


def read_corpus(sandbox: MediaSandbox, folder: Path, seed: int, watching: Watch, tally: Tally) -> None:
    """Every case of the corpus."""
    # All of them first: encoding in this process would count as its growth.
    cases = list(corpus(folder, seed, port=watching.port))
    watching.touched()
    for case in cases:
        outcome = read(sandbox, case.path, folder)
        if case.family == "good" and outcome.ended != "ok":
            outcome = replace(outcome, unlawful="a good clip was refused")
        tally.add(case.path.name, case.path, outcome, watching.touched())


def read_mutants(sandbox: MediaSandbox, folder: Path, seed: int, minutes: float, watching: Watch, tally: Tally, keep: Path | None) -> Pool:
    """Mutants for so many minutes; one in eight from memory, one in eight from a feed that cannot go back."""
    rng = Random(seed)
    (folder / "seeds").mkdir()
    pool = Pool(folder / "pool", (write_seed(folder / "seeds", name).read_bytes() for name in MUTATED), rng)
    # Under `keep`, so that it is still there should this very process die of it.
    path = (keep or folder) / "current"
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        data = pool.draw()
        path.write_bytes(data)
        source = rng.choice((*(path,) * 6, io.BytesIO(data), Forward(data)))
        outcome = read(sandbox, source, folder)
        how = "file" if source is path else type(source).__name__
        tally.add(f"mutant-{how}-{seed}-{tally.inputs}", path, outcome, watching.touched())
        pool.learn(data, outcome)
    path.unlink(missing_ok=True)
    return pool


@contextlib.contextmanager
def _workshop() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        yield Path(folder)


def main() -> int:
    """Read, count, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read hostile media through the sandbox.")
    parser.add_argument("--minutes", type=float, default=15.0, help="how long to mutate after the corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the totals here, and one line an input beside it (.jsonl)")
    parser.add_argument("--keep", type=Path, help="folder for inputs that ended badly")
    wanted = parser.parse_args()
    faulthandler.enable()
    if wanted.keep is not None:
        wanted.keep.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_workshop())
        records = stack.enter_context(wanted.json.with_suffix(".jsonl").open("w")) if wanted.json else None
        bait(folder)  # what is watched must be there
        watching = stack.enter_context(watch(canaries(folder)))
        sandbox = stack.enter_context(MediaSandbox())
        tally = Tally(records, wanted.keep)
        read_corpus(sandbox, folder, wanted.seed, watching, tally)
        cases = tally.inputs
        pool = read_mutants(sandbox, folder, wanted.seed, wanted.minutes, watching, tally, wanted.keep)
        canaries(folder)[0].read_bytes()
        if not watching.touched():
            raise RuntimeError("the watch slept: it did not notice that a canary was read")
        totals = {"seed": wanted.seed, "corpus": cases, "mutants": tally.inputs - cases, "signatures": pool.signatures} | tally.totals()
        tally.show(Console(), f"{cases} cases, {tally.inputs - cases} mutants, seed {wanted.seed}")
    if wanted.json:
        wanted.json.write_text(json.dumps(totals | {"findings": tally.findings}, indent=1) + "\n")
    return 1 if tally.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
