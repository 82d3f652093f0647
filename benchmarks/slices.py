"""One side of `benchmarks.pair`: a stack of whichever tree it is started in, driven for a slice whenever a line asks for one.

Started as `python -P slices.py` with that tree first on the path, so that load, services and engines are of that tree.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.load import STEPS, closed_loop, percentile
from benchmarks.machine import Cpu, versions
from benchmarks.targets import Target, stack
from benchmarks.workloads import nodes, run_through, start


async def main() -> None:
    """Says its versions when it is ready; answers each `{"workload", "at", "seconds"}` with its figures; ends with the input."""
    with tempfile.TemporaryDirectory(prefix="handrail-pair-") as folder:
        async with stack(Path(folder)) as target:
            print(json.dumps(versions(**target.engines)), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                asked = json.loads(line)
                one = partial(_one, target, start(nodes(asked["workload"])))
                with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
                    wall, latencies = await closed_loop(one, 10**9, asked["at"], asked["seconds"])
                found = {"per s": len(latencies) / wall, "p50 ms": percentile(latencies, 50) * 1e3}
                print(json.dumps({**found, **cpu.per(len(latencies) * STEPS[asked["workload"]])}), flush=True)


async def _one(target: Target, body: Callable[[str], bytes], _: int) -> None:
    await run_through(target, body)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
