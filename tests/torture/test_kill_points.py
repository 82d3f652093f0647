"""Real orchestrators and agents on real Kafka and PostgreSQL, killed by SIGKILL at named points; one checker judges.

K1-K12 in the orchestrator, K16-K19 in the agents, each so many times per topology, several in one boot of the engines, lease
1 s. RELIABILITY names 21 points and says nothing of K8; here it is the gap between K7 and the next batch: published and marked so
in memory, `published_upto` not stored yet. (K13-K15 are in `tests/integration/test_gateway_crash.py`.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from handrail.engines.kafka import LocalKafka
from tests.engines import fresh_database
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, P, lab
from tests.waiting import wait_until

HITS = int(os.environ.get("HANDRAIL_KILL_HITS", "25" if os.environ.get("HANDRAIL_TORTURE") == "long" else "5"))
ORCHESTRATOR = ("K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K12")
AGENTS = ("K16", "K17", "K18", "K19")
PASSES = {"K1": 8, "K3": 5, "K4": 5, "K5": 5, "K7": 5, "K8": 5, "K16": 6, "K17": 6, "K18": 6, "K19": 4}
"""So many passes before it dies, so that work is under way: the others are passed seldom, or at the start."""

pytestmark = [pytest.mark.torture, pytest.mark.kafka, pytest.mark.timeout(7_200)]


@pytest.mark.parametrize("orchestrators", [1, 2])
async def test_dying_at_any_point_loses_nothing_and_doubles_nothing(
    orchestrators: int, postgres_server: str, broker: LocalKafka, tmp_path: Path
) -> None:
    dsn = await fresh_database(postgres_server)
    began = time.monotonic()
    async with lab(
        dsn, broker.bootstrap_servers, tmp_path, seed=orchestrators, orchestrators=orchestrators, agents=2
    ) as it:
        owners = [it.procs[f"o{i + 1}"] for i in range(orchestrators)]
        hands = [it.procs["a1"], it.procs["a2"]]
        for group, points in ((owners, ORCHESTRATOR), (hands, AGENTS)):
            shots = [_armed(k) for _ in range(HITS) for k in points]
            for i, shot in enumerate(shots):
                group[i % len(group)].plan.append(shot)
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over))
        nudge = asyncio.create_task(_leave_when_told(it, over))
        for proc in (*owners, *hands):
            proc.signal(signal.SIGKILL)  # the next start is armed

        def all_hit() -> bool:
            if load.done():
                load.result()
            return all(not p.plan for p in (*owners, *hands))

        try:
            await wait_until(all_hit, description="every point has struck", timeout_s=3_000)
        finally:
            over.set()
            print({p.name: (list(p.plan), dict(p.hits)) for p in (*owners, *hands)})
        await asyncio.gather(load, nudge)
        hits: Counter[str] = Counter()
        for proc in (*owners, *hands):
            hits.update(proc.hits)
        judge(await it.history(faults=hits, expected_faults=frozenset((*ORCHESTRATOR, *AGENTS))))
        took = time.monotonic() - began
        print(
            f"{orchestrators} orchestrators: {sum(hits.values())} kills {dict(hits)}, {len(it.names)} workflows, {took:.0f} s"
        )
        assert all(hits[k] >= HITS for k in (*ORCHESTRATOR, *AGENTS))


def _armed(point: str) -> str:
    n = PASSES.get(point)
    return point if n is None else f"{point}:{n}"


async def _leave_when_told(it: Lab, over: asyncio.Event) -> None:
    """K9 lies on the way out: whoever is armed with it is asked to stop once it owns something itself."""
    asked: dict[str, int] = {}
    while not over.is_set():
        for proc in it.procs.values():
            pid = proc.pid
            if proc.armed == "K9" and asked.get(proc.name) != pid and await _owns(it, pid):
                asked[proc.name] = pid
                await asyncio.sleep(1.0)
                if proc.pid == pid:
                    proc.signal(signal.SIGTERM)
        await asyncio.sleep(0.2)


async def _owns(it: Lab, pid: int) -> bool:
    """Whether the orchestrator of this process owns a partition."""
    held = "SELECT count(*) FROM handrail.partition WHERE lease_until > clock_timestamp() AND owner ~ $1"
    return bool(await it.pool.fetchval(held, _ending_with(pid)))


async def test_zombies_are_fenced(postgres_server: str, broker: LocalKafka, tmp_path: Path) -> None:
    """Owners and workers are stopped for longer than their leases, and go on as if nothing had happened."""
    dsn = await fresh_database(postgres_server)
    async with lab(dsn, broker.bootstrap_servers, tmp_path, seed=7, orchestrators=2, agents=2) as it:
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over))
        stopped: Counter[str] = Counter()
        for _ in range(HITS):
            for name in ("o1", "a1", "o2", "a2"):
                proc = it.procs[name]
                if name.startswith("o"):  # what owns nothing has nothing to lose: this one may have started last
                    await wait_until(lambda x=proc: _owns(it, x.pid), description=f"{name} owns a partition")
                proc.signal(signal.SIGSTOP)
                if name.startswith("o"):  # until somebody else has taken what it owned
                    await wait_until(
                        lambda x=proc: _moved(it, x.pid), description="its partitions have moved", timeout_s=60
                    )
                else:
                    await asyncio.sleep(2.0)  # twice its leases: that they are over is what this is about
                proc.signal(signal.SIGCONT)
                stopped[name] += 1
                n = len(it.names)
                await wait_until(lambda n=n: len(it.names) > n + 3, description="work goes on", timeout_s=60)
        over.set()
        await load
        judge(await it.history(faults=stopped, expected_faults=frozenset(stopped)))
        print(f"zombies: {dict(stopped)} stopped and resumed, {len(it.names)} workflows")


async def _moved(it: Lab, pid: int) -> bool:
    """Whether nothing is this process's any more, and everything somebody else's."""
    others = "SELECT count(*) FROM handrail.partition WHERE owner !~ $1"
    return await it.pool.fetchval(others, _ending_with(pid)) == P


def _ending_with(pid: int) -> str:
    """What the name of an orchestrator in this process ends with: its id and eight hexadecimal digits."""
    return f"-{pid}-[0-9a-f]{{8}}$"
