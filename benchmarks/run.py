"""W1–W7 on the services with real Kafka and on embedded: `python -m benchmarks.run`, or `make bench WORKLOAD=…`.

Every line is JSON, as the peers' are; a table of medians is last. Closed loop through the public API, after a warm-up.
Workflows' ends are read from `handrail.events`, as a consumer of ours would (the Redis projection and the SSE notifier
run beside it), on embedded from each workflow's own stream.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.big import big
from benchmarks.fanout import fanout
from benchmarks.load import emit, median
from benchmarks.machine import rss_mb, versions
from benchmarks.targets import Target, embedded, stack

WORKLOADS = ("diamond", "chain10", "resume", "fanout", "big", "accept", "rehydrate")
W = {f"w{i}": name for i, name in enumerate(WORKLOADS, 1)}


async def rows_of(target: Target, workload: str, a: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    """The runs of one workload."""
    levels = tuple(map(int, a.levels.split(",")))
    p = workloads.Plan(levels, a.repeats, a.seconds, a.cap, warm_s=a.warm)
    match workload:
        case "diamond" | "chain10":
            for effect in a.effects.split(","):
                plan = workloads.Plan(levels, a.repeats, a.seconds, a.cap, effect, a.warm)
                async for row in workloads.dag(target, workload, plan):
                    yield row
            return
        case "resume":
            found = workloads.resume(target, p)
        case "accept":
            found = workloads.accept(target, p)
        case "rehydrate":
            found = workloads.rehydrate(target, p)
        case "big":
            found = big(target, a.nodes)
        case _:
            for clients in map(int, a.clients.split(",")):
                async for row in fanout(
                    target, clients, a.lanes if clients <= 1000 else max(1, a.lanes // 5), a.seconds
                ):
                    yield row
            return
    async for row in found:
        yield row


async def measure(target: Target, a: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of one target."""
    rows: list[dict[str, Any]] = []
    print(json.dumps({"target": target.name, **versions(**target.engines)}), flush=True)
    for name in a.workloads.split(","):
        async for row in rows_of(target, W.get(name.lower()) or name, a):
            emit(row)
            rows.append(row)
    print(json.dumps({"target": target.name, "rss_mb": rss_mb(target.roots)}), flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Medians over the repeats."""
    head = ("target", "workload", "effect", "at", "per s", "nodes/s", "p50 ms", "p99 ms", "cpu ms", "cores", "others")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key in dict.fromkeys((r["peer"], r["wl"], r.get("effect", ""), r["conc"]) for r in rows):
        same = [r for r in rows if (r["peer"], r["wl"], r.get("effect", ""), r["conc"]) == key]
        nodes = f"{median(same, 'steps_s'):.0f}" if "steps_s" in same[0] else ""
        rate = median(same, "deliveries_s") if "deliveries_s" in same[0] else median(same, "wf_s")
        p50, p99 = ("lag_p50_ms", "lag_p99_ms") if "lag_p99_ms" in same[0] else ("p50_ms", "p99_ms")
        figures = (f"{rate:.1f}", nodes, f"{median(same, p50):.1f}", f"{median(same, p99):.1f}")
        busy = (f"{median(same, 'cpu_ms_all'):.3f}", f"{median(same, 'cores'):.2f}", f"{median(same, 'others'):.2f}")
        lines.append("| " + " | ".join((*map(str, key), *figures, *busy)) + " |")
    return "\n".join(lines)


def budget(rows: Sequence[dict[str, Any]]) -> str:
    """Where the CPU of a node goes, by process: the median of each over the runs with the most at once."""
    dags = [r for r in rows if "effect" in r]
    lines: list[str] = []
    for key in dict.fromkeys((r["peer"], r["wl"], r["effect"]) for r in dags):
        same = [r for r in dags if (r["peer"], r["wl"], r["effect"]) == key]
        most = max(r["conc"] for r in same)
        each = [r["cpu_ms"] for r in same if r["conc"] == most]
        parts = ", ".join(f"{name} {sorted(e[name] for e in each)[len(each) // 2]:.3f}" for name in each[0])
        lines.append(f"budget {' '.join(key)} at {most}, CPU ms per node: {parts}")
    return "\n".join(lines)


def target_on(name: str, data: Path, a: argparse.Namespace) -> AbstractAsyncContextManager[Target]:
    """The target, not yet started."""
    if name == "embedded":
        return embedded(data)
    return stack(data, partitions=a.partitions, orchestrators=a.orchestrators, agents=a.agents)


def arguments() -> argparse.ArgumentParser:
    """What can be chosen."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--on", default="stack,embedded", help="targets, in this order")
    p.add_argument("--workloads", default="diamond,chain10", help=f"of {', '.join(WORKLOADS)}, or w1 to w7")
    p.add_argument("--effects", default="pure,idempotent", help="effect classes of the nodes of diamond and chain10")
    p.add_argument("--levels", default="1,20,100", help="concurrencies")
    p.add_argument("--repeats", type=int, default=3, help="runs of each")
    p.add_argument("--seconds", type=float, default=10, help="a run begins no more calls after this")
    p.add_argument("--warm", type=float, default=workloads.WARM_S, help="seconds of load before the first run")
    p.add_argument("--cap", type=int, default=10_000, help="workflows of a run at most")
    p.add_argument("--nodes", type=int, default=10_000, help="nodes of a big DAG")
    p.add_argument("--clients", default="1000,5000", help="SSE clients of fanout, one run each")
    p.add_argument("--lanes", type=int, default=5, help="lanes of fanout: about 15 events per second each")
    p.add_argument("--partitions", type=int, default=4, help="P of the stack")
    p.add_argument("--orchestrators", type=int, default=1, help="processes of the stack")
    p.add_argument("--agents", type=int, default=1, help="processes of the stack")
    return p


async def main() -> None:
    """Parses, measures, prints."""
    a = arguments().parse_args()
    rows: list[dict[str, Any]] = []
    for name in a.on.split(","):
        with tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
            async with target_on(name, Path(folder), a) as target:
                rows.extend(await measure(target, a))
    print("\nmedians\n" + table(rows) + "\n\n" + budget(rows))


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
