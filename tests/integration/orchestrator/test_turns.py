"""How turns follow each other: with several workflows they keep a distance, with one they follow at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.integration.orchestrator.rig import Rig, rig_on
from tests.waiting import wait_until

from handrail_orchestrator.application import orchestrator
from handrail_orchestrator.application.batch import Batcher
from handrail_orchestrator.application.work import Work

HOURS_S = 7200.0


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """When each batch began, and how many workflows it was about."""
    seen: list[tuple[float, int]] = []
    real = Batcher.run

    async def run(self: Batcher, work: Work) -> None:
        seen.append((asyncio.get_running_loop().time(), len(work.items)))
        await real(self, work)

    monkeypatch.setattr(Batcher, "run", run)
    return seen


async def test_turns_with_several_workflows_keep_their_distance(
    rig: Rig, turns: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    distance_s = 0.2
    monkeypatch.setattr(orchestrator, "TURN_EVERY_S", distance_s)
    for i in range(10):
        await rig.start(f"w{i}")
    await rig.orchestrator()
    for i in range(10):
        await rig.until(f"w{i}", "COMPLETED")
    await rig.check()
    pairs = [(after - before, n) for (before, n), (after, _) in itertools.pairwise(turns)]
    assert all(gap >= 0.9 * distance_s for gap, n in pairs if n > 1), turns
    assert any(n > 1 for _, n in pairs), turns


async def test_a_workflow_alone_never_waits_for_company(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "TURN_EVERY_S", HOURS_S)
    await rig.orchestrator()
    await rig.start("w")
    await rig.until("w", "COMPLETED")
    await rig.check()


async def test_a_stop_does_not_wait_for_the_next_turn(
    rig: Rig, turns: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestrator, "TURN_EVERY_S", HOURS_S)
    rig.answer = lambda task: None
    for i in range(2):
        await rig.start(f"w{i}")
    resting = await rig.orchestrator()
    await wait_until(lambda: any(n > 1 for _, n in turns), description="a turn with both workflows")
    await asyncio.wait_for(rig.end(resting), 30)
