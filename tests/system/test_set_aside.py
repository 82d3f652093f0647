"""What was set aside, from outside: a late effect found after the end, undone in a workflow of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.system.demo import Demo
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)
LATE = {
    "id": "order",
    "agent": "simulator",
    "action": "script",
    "effect_class": "idempotent",
    "retry": {"max_attempts": 1},
    "timeouts": {"lease_s": 0.5, "start_to_close_s": 60},
}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Demo]:
    made = Demo(Path(tmp_path_factory.mktemp("set-aside")))
    await made.start()
    yield made
    await made.stop()


async def late_effect(demo: Demo, trace_id: str, node: dict[str, Any]) -> dict[str, Any]:
    """Runs a workflow whose effect comes to light after its end; answers the dead letter."""
    async with demo.client() as client:
        await client.start(plan={"nodes": [{**node, "inputs": {"outcomes": ["late:15000"]}}]}, trace_id=trace_id)

        async def paused() -> bool:
            return (await client.state(trace_id)).status == "PAUSED_HITL"

        await wait_until(paused, description="the silent attempt asks a person", timeout_s=60)
        await client.resume(trace_id, "RES_SKIP")

        found: list[dict[str, Any]] = []

        async def late() -> bool:
            items = (await client.dead_letters(trace_id=trace_id)).items
            found.extend(d.model_dump() for d in items if d.kind == "late_effect")
            return bool(found)

        await wait_until(late, description="the effect came to light", timeout_s=60)
        assert (await client.state(trace_id)).status == "COMPLETED_WITH_SKIPS"
        return found[0]


async def test_a_late_effect_is_undone_by_its_replay_and_one_without_an_undo_can_only_be_discarded(demo: Demo) -> None:
    letter, lone = await asyncio.gather(
        late_effect(demo, "late-1", LATE), late_effect(demo, "late-2", {**LATE, "compensation": "none"})
    )
    assert letter["error_code"] == "late-effect" and letter["state"] == "open" and letter["pause_id"] is None
    told = await demo.handrail("dead-letters", "replay", letter["dead_letter_id"], "--reason", "nobody wants it")
    undo = f"undo-{letter['dead_letter_id']}"
    assert told.code == 0 and f"watch {undo}" in told.out
    async with demo.client() as client:

        async def ended() -> bool:
            return (await client.state(undo)).status == "COMPLETED"

        await wait_until(ended, description="the undo ended", timeout_s=60)
        assert [e["kind"] for e in await demo.ledger("late-1")] == ["do", "undo"]
        assert (await client.get_dead_letter(letter["dead_letter_id"])).state == "replayed"
        again = await demo.handrail("dead-letters", "replay", letter["dead_letter_id"])
        assert again.code != 0 and "replayed" in again.err

        refused = await demo.handrail("dead-letters", "replay", lone["dead_letter_id"])
        assert refused.code != 0 and "declares no undo" in refused.err
        kept = await demo.handrail("dead-letters", "discard", lone["dead_letter_id"], "--reason", "seen to by hand")
        assert kept.code == 0
        shown = await client.get_dead_letter(lone["dead_letter_id"])
        assert (shown.state, shown.reason) == ("discarded", "seen to by hand")
