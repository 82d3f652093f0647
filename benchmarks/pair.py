"""This tree beside an older one of itself: `make bench-pair OLD=<commit>`.

Both stacks are up at once, each on engines of its own, and the load goes to one and to the other in turn, two seconds each,
so that the drift of a machine falls on both alike. What counts are the ratios within each pair: new/old, median and
quartiles, of calls per second, p50 and CPU per node, then of each process. `OLD=HEAD` shows what the method cannot tell apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import older
from benchmarks.load import percentile
from benchmarks.peers.environment import ROOT
from benchmarks.targets import port

WARM_S = 8.0
Row = dict[str, Any]


class Side:
    """One of both stacks."""

    def __init__(self, tree: Path, at: int, log: Path) -> None:
        self._tree, self._at, self._log = tree, at, log

    async def start(self) -> Row:
        """Its versions, when it is ready. Raises RuntimeError with the end of what it said."""
        python, script = self._tree / ".venv" / "bin" / "python", ROOT / "benchmarks" / "slices.py"
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(python), "-P", str(script), cwd=self._tree, stderr=log,
                env={**os.environ, "PYTHONPATH": str(self._tree), "BENCH_PORT": str(self._at)},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        return await self._answer()

    async def slice(self, workload: str, at: int, seconds: float) -> Row:
        """Its figures under that load."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"workload": workload, "at": at, "seconds": seconds}).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> Row:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):
                return json.loads(line)
        raise RuntimeError(f"Expected a stack of {self._tree}, but: {self._log.read_text(errors='replace')[-2000:]}")

    async def stop(self) -> None:
        """Ends it and waits for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def told(pairs: Sequence[tuple[Row, Row]], name: str, of: Callable[[Row], float]) -> str:
    """A line: both medians, and the ratio of each pair."""
    ratios = [of(new) / max(1e-9, of(old)) for old, new in pairs]
    each = [statistics.median(of(pair[side]) for pair in pairs) for side in (0, 1)]
    low, high = percentile(ratios, 25), percentile(ratios, 75)
    return f"  {name:16} {each[0]:9.3f} → {each[1]:9.3f}   {statistics.median(ratios):.2f} [{low:.2f} {high:.2f}]"


async def compared(old: Side, new: Side, workload: str, at: int, slices: int, seconds: float) -> None:
    """Warms both, drives them in turn, prints."""
    for side in (old, new):
        await side.slice(workload, max(20, at), WARM_S)
        await side.slice(workload, at, seconds)
    pairs: list[tuple[Row, Row]] = []
    for i in range(slices):
        first, second = (old, new) if i % 2 else (new, old)
        found = {first: await first.slice(workload, at, seconds), second: await second.slice(workload, at, seconds)}
        pairs.append((found[old], found[new]))
    others = statistics.median(row["others"] for pair in pairs for row in pair)
    print(
        f"{workload} at {at}: old → new, new/old [quartiles], {slices} pairs of {seconds:g} s, others {others:.2f} cores"
    )
    for name in ("per s", "p50 ms"):
        print(told(pairs, name, lambda row, name=name: row[name]))
    print(told(pairs, "cpu ms", lambda row: row["cpu_ms_all"]))
    for name in pairs[0][0]["cpu_ms"]:
        print(told(pairs, f"cpu {name}", lambda row, name=name: row["cpu_ms"][name]), flush=True)


async def pair(said: argparse.Namespace, tree: Path, folder: Path) -> int:
    """Starts both, compares."""
    old, new = Side(tree, port() + 40, folder / "old.log"), Side(ROOT, port() + 80, folder / "new.log")
    async with contextlib.AsyncExitStack() as stop:
        for name, side in (("old", old), ("new", new)):
            print(f"{name}: {json.dumps(await side.start())}", flush=True)
            stop.push_async_callback(side.stop)
        for workload in said.workloads.split(","):
            for at in map(int, said.levels.split(",")):
                await compared(old, new, workload, at, said.slices, said.seconds)
    return 0


def main() -> int:
    """Parses, compares; 2 when the older version cannot be had."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workloads", default="diamond", help="of diamond, chain10 (default diamond)")
    p.add_argument("--levels", default="1,100", help="concurrencies (default 1,100)")
    p.add_argument("--slices", type=int, default=14, help="pairs of slices (default 14)")
    p.add_argument("--seconds", type=float, default=2, help="of a slice (default 2)")
    return older.command(p, pair)


if __name__ == "__main__":
    sys.exit(main())
