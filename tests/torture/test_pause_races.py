"""Sixteen contend for one pause: fourteen people, its own deadline, and a cancel. One outcome, the same everywhere.

A real orchestrator and PostgreSQL; people decide as the gateway's transaction does, under the pause's lock.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest

from handrail_contracts.ids import partition
from handrail_simulators import ensure
from handrail_store import intake, migrate
from tests.integration.orchestrator.rig import P, Rig, failed, node, rig_on
from tests.torture.checker.history import Accepted
from tests.torture.checker.invariants import judge
from tests.torture.checker.reading import read
from tests.waiting import wait_until

RACES = 10_000 if os.environ.get("HANDRAIL_TORTURE") == "long" else 1_000
PEOPLE, AT_ONCE = 14, 40
DEADLINE_S, LEAD_S = 2.0, 0.8
CHANNELS = ("console", "api", "cli", "slack", "mcp")


@pytest.mark.parametrize("races", [5, pytest.param(RACES, marks=[pytest.mark.torture, pytest.mark.timeout(7_200)])])
async def test_one_of_sixteen_contenders_wins_with_deadline_and_cancel_among_them(
    races: int, empty_database: str
) -> None:
    rng = Random(races)
    await migrate.upgrade(empty_database, P)
    async with rig_on(empty_database) as rig:
        await ensure(rig.pool)
        rig.answer = lambda task: failed(task, retryable=False)
        await rig.orchestrator()
        accepted: list[Accepted] = []
        winners: Counter[str] = Counter()
        for first in range(0, races, AT_ONCE):
            names = [f"r{races}-{i}" for i in range(first, min(races, first + AT_ONCE))]
            await asyncio.gather(*(_race(rig, name, rng, accepted) for name in names))
            winners.update(await _outcomes(rig, names))
        async with rig.pool.acquire() as c:
            judge(await read(c, rig.bus, accepted=accepted, quiet=False, least_ended=races))
        print(f"{races} races of {PEOPLE + 2} contenders: {dict(winners)}")
        assert sum(winners.values()) == races
        if races >= 1_000:
            assert all(winners[k] for k in ("decided", "expired", "cancelled")), winners


async def _race(rig: Rig, name: str, rng: Random, accepted: list[Accepted]) -> None:
    expiry = {"after_s": DEADLINE_S, "action_id": "RES_SKIP"}
    await rig.start(name, [node("n", retry={"max_attempts": 1}, expiry=expiry)])
    found: list[Any] = []

    async def open_() -> bool:
        found[:] = await rig.pool.fetch(
            "SELECT pause_id, data, extract(epoch FROM expires_at - handrail.clock())::float8 AS left_s "
            "FROM handrail.pause WHERE trace_id = $1",
            name,
        )
        return bool(found)

    await wait_until(open_, description=f"{name} is paused", timeout_s=60)
    pause, left_s = found[0], max(0.0, found[0]["left_s"])
    moment = rng.choice((min(LEAD_S, left_s / 2), left_s, left_s + 0.04))  # before, about or just after the deadline
    lead_s = rng.choice((0.0, 0.0, rng.uniform(0.0, LEAD_S)))  # a command takes longer to count than a press
    await asyncio.gather(
        *(_press(rig, name, pause["pause_id"], rng, moment, accepted) for _ in range(PEOPLE)),
        _cancel(rig, name, rng, min(moment, left_s) - lead_s),
    )
    await rig.until(name, "COMPLETED_WITH_SKIPS", "COMPENSATED", "CANCELLED", "COMPLETED", timeout_s=120)


async def _press(rig: Rig, name: str, pause_id: str, rng: Random, moment: float, accepted: list[Accepted]) -> None:
    action, channel = rng.choice(("RES_SKIP", "RES_ABORT_SAGA")), rng.choice(CHANNELS)
    await asyncio.sleep(max(0.0, moment + rng.uniform(-0.05, 0.05)))  # its moment: it is what the race is about
    async with rig.pool.acquire() as c, c.transaction():
        pause = await intake.lock_pause(c, "default", pause_id)
        if pause["state"] != "open" or pause["d_outcome"] is not None or pause["expires_at"] <= pause["now"]:
            return
        told = intake.NewDecision("default", pause_id, name, "decided", action, None, None, "ana", channel, None)
        await intake.add_decision(c, told)
        body = orjson.dumps({"pause_id": pause_id}).decode()
        p = partition("default", name, P)
        await intake.add_command(
            c, intake.NewCommand(f"decide-{pause_id}", "default", name, p, "decide", orjson.loads(body), "ana", channel)
        )
    accepted.append(Accepted("decide", name, f"decide-{pause_id}", pause_id, action))


async def _cancel(rig: Rig, name: str, rng: Random, moment: float) -> None:
    if rng.random() < 0.5:
        await asyncio.sleep(max(0.0, moment + rng.uniform(-0.05, 0.05)))
        await rig.command(name, "cancel", {"compensate": True, "comment": None}, f"cancel-{name}")


async def _outcomes(rig: Rig, names: list[str]) -> Counter[str]:
    rows = await rig.pool.fetch("SELECT outcome FROM handrail.decision WHERE trace_id = ANY($1::text[])", names)
    return Counter(r["outcome"] for r in rows)
