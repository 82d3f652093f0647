"""Two versions at once on one database and one Kafka: `make skew OLD=<commit>`.

Two orchestrators and two agents workers, each pair on the other's version, exchange their versions every ten seconds while
workflows run and pauses are decided, by SIGTERM and SIGKILL in turn. So each version takes over what the other has begun,
and answers what the other has asked. The database is this tree's, as after a migration of a rolling upgrade. One invariant
checker judges the whole history.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

from benchmarks import older

from handrail.engines.kafka import LocalKafka
from handrail.engines.postgres import LocalPostgres
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, Proc, lab
from tests.waiting import wait_until


async def exchanged(proc: Proc, python: str, number: int) -> None:
    """Ends the process by that signal; what is started in its place is of the other version."""
    before, proc.python = proc.process, python
    proc.signal(number)
    await wait_until(lambda: proc.process is not before, description=f"{proc.name} is there again", timeout_s=60)


async def take_turns(it: Lab, new: str, old: str, seconds: float, every_s: float) -> Counter[str]:
    """Exchanges versions until the time is over; answers how often each service was begun as each."""
    begun: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    numbers = cycle((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL))
    pairs = cycle((("o1", "a2"), ("o2", "a1")))
    while time.monotonic() < ends:
        for name in next(pairs):
            proc = it.procs[name]
            python, word = (new, "new") if proc.python == old else (old, "old")
            await exchanged(proc, python, next(numbers))
            begun[f"{word} {proc.module.removeprefix('handrail_')}"] += 1
        at = len(it.names)
        await asyncio.sleep(every_s)
        await wait_until(lambda at=at: len(it.names) > at, description="work goes on", timeout_s=60)
        print(f"  {len(it.names)} workflows begun, {dict(begun)}", flush=True)
    return begun


async def verdict(said: argparse.Namespace, tree: Path, folder: Path) -> int:
    """Runs both versions on engines of their own; 0, or 1 with what was broken."""
    os.environ.pop("PYTHONPATH", None)  # or the old version would import the new one
    old = str(tree / ".venv" / "bin" / "python")
    async with contextlib.AsyncExitStack() as stop:
        kafka = await LocalKafka.start(folder / "kafka", on_progress=print)
        stop.push_async_callback(kafka.stop)
        postgres = await LocalPostgres.start(folder / "postgres")
        stop.push_async_callback(postgres.stop)
        made = lab(postgres.dsn, kafka.bootstrap_servers, folder, seed=11, orchestrators=2, agents=2)
        it = await stop.enter_async_context(made)
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over))
        try:
            for name in ("o2", "a2"):
                await exchanged(it.procs[name], old, signal.SIGTERM)
            begun = await take_turns(it, sys.executable, old, said.seconds, said.every)
        finally:
            over.set()
            await load
        history = await it.history()
        decided = await it.pool.fetchval("SELECT count(*) FROM handrail.decision")
        ends = await it.pool.fetch("SELECT status, count(*) AS n FROM handrail.workflow GROUP BY 1 ORDER BY 1")
    ended = ", ".join(f"{r['n']} {r['status']}" for r in ends)
    print(f"begun anew: {dict(begun)}; {decided} decisions; {ended}")
    try:
        judge(history)
    except AssertionError as e:
        print(f"broken: {e}", file=sys.stderr)
        return 1
    print("every invariant held")
    return 0


def main() -> int:
    """Parses, prints the verdict; 2 when the older version cannot be had."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=120, help="how long (default 120)")
    p.add_argument("--every", type=float, default=10, help="seconds between two exchanges (default 10)")
    return older.command(p, verdict)


if __name__ == "__main__":
    sys.exit(main())
