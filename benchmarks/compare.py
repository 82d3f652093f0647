"""Ours beside what people would pick instead: `make bench-compare`, or `QUICK=1 make bench-compare` (Restate alone).

In turn, A B A B, each system started fresh and stopped again, so that an hour's drift of the machine falls on all alike.
The last lines are one per figure: `ratio <peer> <workload> <concurrency> <ours/theirs>` (calls per second, higher is
better) and `ratio-p50 …` (latency, lower is better).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.load import emit, median
from benchmarks.machine import versions
from benchmarks.peers import environment, restate_peer
from benchmarks.run import table
from benchmarks.targets import port, stack
from benchmarks.workloads import Plan, Rows
from handrail.engines.postgres import LocalPostgres

OURS = "handrail-stack"
PEERS = ("restate", "langgraph", "dbos")


async def ours(names: Sequence[str], p: Plan, rep: int) -> Rows:
    """One repeat on the services with real Kafka."""
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
        async with stack(Path(folder)) as target:
            print(json.dumps({"target": target.name, **versions(**target.engines)}), flush=True)
            for name in names:
                found = workloads.resume(target, p) if name == "resume" else workloads.dag(target, name, p)
                async for row in found:
                    yield {**row, "rep": rep}


async def library(peer: str, names: Sequence[str], p: Plan, rep: int) -> Rows:
    """One repeat of a peer that runs in its own process on PostgreSQL: the server and settings that ours has."""
    python = await environment.python_of(peer)
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
        async with AsyncExitStack() as stop:
            server = await LocalPostgres.start(Path(folder) / "postgres")
            stop.push_async_callback(server.stop)
            asked = {"workloads": list(names), "levels": p.levels, "seconds": p.seconds, "cap": p.cap, "rep": rep}
            asked |= {"warm_s": p.warm_s, "postgres_pid": server.pid}
            dsn = server.dsn if peer == "langgraph" else server.dsn.replace("postgresql://", "postgresql+psycopg://")
            script = str(environment.ROOT / "benchmarks" / "peers" / f"{peer}_peer.py")
            process = await asyncio.create_subprocess_exec(
                str(python),
                script,
                dsn,
                json.dumps(asked),
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(environment.ROOT)},
            )
            assert process.stdout is not None
            try:
                async for line in process.stdout:
                    if line.startswith(b"{"):
                        yield json.loads(line)
                if await process.wait():
                    raise environment.PeerUnavailable(
                        f"Expected {peer} to run, but it ended with {process.returncode}."
                    )
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()


def ratios(rows: Sequence[dict[str, Any]], peers: Sequence[str]) -> list[str]:
    """One line per figure that both sides have."""
    lines: list[str] = []
    for peer in peers:
        for key in dict.fromkeys((r["wl"], r["conc"]) for r in rows if r["peer"] == peer):
            both = [[r for r in rows if r["peer"] == who and (r["wl"], r["conc"]) == key] for who in (OURS, peer)]
            if not all(both):
                continue
            (mine, theirs), name = both, f"{peer} {key[0]} {key[1]}"
            lines.append(f"ratio {name} {median(mine, 'wf_s') / median(theirs, 'wf_s'):.2f}")
            lines.append(f"ratio-p50 {name} {median(mine, 'p50_ms') / median(theirs, 'p50_ms'):.2f}")
    return lines


def arguments(quick: bool) -> argparse.ArgumentParser:
    """What can be chosen; QUICK=1 changes the defaults."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--peers", default="restate" if quick else ",".join(PEERS), help="in this order")
    p.add_argument("--workloads", default="diamond" if quick else "diamond,chain10,resume", help="what is compared")
    p.add_argument("--levels", default="1,100" if quick else "1,20,100", help="concurrencies")
    p.add_argument("--rounds", type=int, default=2, help="turns of each system")
    p.add_argument("--seconds", type=float, default=8, help="a run begins no more calls after this")
    p.add_argument("--warm", type=float, default=8, help="seconds of load before the first run")
    p.add_argument("--cap", type=int, default=10_000, help="workflows of a run at most")
    return p


async def main() -> int:
    """Parses, measures in turn, prints."""
    a = arguments(os.environ.get("QUICK", "") not in ("", "0")).parse_args()
    p = Plan(tuple(map(int, a.levels.split(","))), 1, a.seconds, a.cap, "pure", a.warm)
    names, rows, left = tuple(a.workloads.split(",")), list[dict[str, Any]](), list[str](a.peers.split(","))
    for rep in range(a.rounds):
        for who in (OURS, *left):
            if who == OURS:
                found = ours(names, p, rep)
            elif who == "restate":
                found = restate_peer.measure(names, p, port() + 20, rep)
            else:
                found = library(who, names, p, rep)
            try:
                async for row in found:
                    emit(row)
                    rows.append(row)
            except environment.PeerUnavailable as e:
                print(f"# {who} is left out: {e}", flush=True)
                left = [peer for peer in left if peer != who]
    print("\nmedians\n" + table(rows) + "\n")
    print("\n".join(ratios(rows, left)))
    return 0 if left else 1


if __name__ == "__main__":
    import uvloop

    sys.exit(uvloop.run(main()))
