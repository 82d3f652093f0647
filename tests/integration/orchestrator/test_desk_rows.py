"""What an orchestrator writes beside the journal: rows of pauses, and what it leaves to the gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.orchestrator.rig import P, Rig, failed, node, ok, rig_on
from tests.waiting import wait_until

import handrail_orchestrator.application.publisher as publisher
from handrail_contracts import ids, topics
from handrail_contracts.tasks import DeadLetter, Result, Task, TaskKind
from handrail_runtime.ports import Outgoing


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


async def test_a_claim_that_is_applied_late_does_not_restore_an_older_one(rig: Rig) -> None:
    rig.answer = lambda task: failed(task, retryable=False)
    await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "PAUSED_HITL")
    pause_id = await rig.pool.fetchval("SELECT pause_id FROM handrail.pause")
    # the gateway writes the row with the command; meanwhile bob has it, and ana's command is applied only now
    await rig.pool.execute(
        "UPDATE handrail.pause SET claimed_by = 'bob', claimed_until = handrail.clock() + interval '5 min'"
    )
    until = "2099-01-01T00:00:00.000Z"
    await rig.command("w", "claim", {"pause_id": pause_id, "claimed_by": "ana", "claimed_until": until})

    async def told() -> bool:
        return any(r.type == "PAUSE_UPDATED" for r in await rig.rows("w"))

    await wait_until(told, description="the claim is journaled")
    assert await rig.pool.fetchval("SELECT claimed_by FROM handrail.pause") == "bob"


async def test_a_dead_letter_from_anybody_opens_a_pause_and_is_listed_and_one_that_names_nobody_is_set_aside(
    rig: Rig,
) -> None:
    rig.answer = lambda task: None
    await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "RUNNING")
    p = ids.partition("default", "w", P)
    for body in (
        {"trace_id": "w", "node_id": "a", "reason": "seen by the watchdog"},
        {"trace_id": "w", "node_id": "nobody", "reason": "lost"},
    ):  # as a console producer sends it: no headers, no key
        await rig.send(Outgoing(topics.DEAD_LETTERS, None, json.dumps(body).encode(), [], p))
    await rig.until("w", "PAUSED_HITL")
    pause: Any = await rig.pool.fetchrow(
        "SELECT pause_id, node_id, data->>'failure_reason' AS reason FROM handrail.pause"
    )
    assert (pause["node_id"], pause["reason"]) == ("a", "seen by the watchdog")
    letter: Any = await rig.pool.fetchrow("SELECT kind, node_id, state, pause_id FROM handrail.dead_letter")
    assert dict(letter) == {"kind": "foreign", "node_id": "a", "state": "open", "pause_id": pause["pause_id"]}

    async def aside() -> bool:
        return (
            await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine WHERE reason LIKE '%unknown-node%'") == 1
        )

    await wait_until(aside, description="the letter for nobody is in quarantine")
    await rig.press("w", "RES_SKIP")
    await rig.until("w", "COMPLETED_WITH_SKIPS")
    assert await rig.pool.fetchval("SELECT state FROM handrail.dead_letter") == "discarded"


@pytest.fixture
def no_letter_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of a dead letter does not come back: only the wake-up after 2 s opens its pause."""
    real = publisher.Publisher.message

    def message(self: Any, p: int, m: Any, at: str) -> Any:
        sending = real(self, p, m, at)
        return (
            sending._replace(message=sending.message._replace(topic=topics.QUARANTINE, partition=0))
            if isinstance(m, DeadLetter)
            else sending
        )

    monkeypatch.setattr(publisher.Publisher, "message", message)


async def letters(rig: Rig) -> dict[str, Any]:
    rows = await rig.pool.fetch(
        "SELECT node_id, state, pause_id, reason, closed_by, closed_at FROM handrail.dead_letter"
    )
    return {r["node_id"]: dict(r) for r in rows}


@pytest.mark.parametrize(("undo", "end"), [(True, "COMPENSATED"), (False, "CANCELLED")])
async def test_a_letter_whose_workflow_is_cancelled_before_its_pause_opens_is_closed(
    rig: Rig, no_letter_returns: None, undo: bool, end: str
) -> None:
    rig.answer = lambda task: failed(task, retryable=False)
    await rig.orchestrator()
    await rig.start("w", [node("a")])

    async def listed() -> bool:
        return "a" in await letters(rig)

    await wait_until(listed, description="the dead letter is listed")
    await rig.command("w", "cancel", {"compensate": undo})
    await rig.until("w", end)
    letter = (await letters(rig))["a"]
    assert (letter["state"], letter["pause_id"], letter["closed_by"]) == ("closed", None, "system")
    assert letter["reason"] == "the workflow is ending" and letter["closed_at"] is not None


async def test_letters_on_their_way_are_over_when_a_person_stops_the_undoing(rig: Rig, no_letter_returns: None) -> None:
    def answer(task: Task) -> Result | None:
        if task.kind is not TaskKind.COMPENSATE:
            return ok(task)
        return failed(task, retryable=False) if task.node_id == "a" else None

    rig.answer = answer
    await rig.orchestrator()
    await rig.start("w", [node("a"), node("b"), node("c", expiry=None, gate={"decide": "always"})])
    await rig.until("w", "PAUSED_HITL")
    await rig.command("w", "cancel", {"compensate": True})

    async def asked() -> bool:
        return (
            await rig.pool.fetchval("SELECT count(*) FROM handrail.pause WHERE state = 'open' AND node_id = 'a'") == 1
        )

    await wait_until(asked, description="the undo of a asks a person")
    undo = next(t for t in rig.tasks if t.kind is TaskKind.COMPENSATE and t.node_id == "b")
    await rig.send(rig.record(failed(undo, retryable=False)))

    async def both() -> bool:
        return len(await letters(rig)) == 2

    await wait_until(both, description="the dead letter of the undo of b is listed")
    await rig.press("w", "RES_STOP")
    await rig.until("w", "COMPENSATION_INCOMPLETE")
    found = await letters(rig)
    assert found["a"]["state"] == "closed" and found["a"]["pause_id"] is not None
    assert (found["b"]["state"], found["b"]["pause_id"]) == ("closed", None)
    assert found["b"]["reason"] == "stopped by ana"


async def test_inputs_that_are_no_object_are_a_failure_that_a_person_answers(rig: Rig) -> None:
    rig.answer = lambda task: ok(task, ["a", "list"])
    await rig.orchestrator()
    await rig.start("first", [node("a", inputs={"$from": "input.x"})], input={"x": 5})
    await rig.start("later", [node("a"), node("b", "a", inputs={"$from": "nodes.a.output"})])
    for trace_id, node_id in (("first", "a"), ("later", "b")):
        await rig.until(trace_id, "PAUSED_HITL")
        pause: Any = await rig.pool.fetchrow(
            "SELECT pause_id, node_id, error_code FROM handrail.pause WHERE trace_id = $1", trace_id
        )
        assert (pause["node_id"], pause["error_code"]) == (node_id, "invalid-inputs")
        found = "SELECT kind, state, pause_id FROM handrail.dead_letter WHERE trace_id = $1"
        letter: Any = await rig.pool.fetchrow(found, trace_id)
        assert dict(letter) == {"kind": "task", "state": "open", "pause_id": pause["pause_id"]}
        await rig.press(trace_id, "RES_SKIP")
        await rig.until(trace_id, "COMPLETED_WITH_SKIPS")
        assert (await rig.pool.fetchrow(found, trace_id))["state"] == "discarded"
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine") == 0


async def test_a_deadline_is_found_in_the_inbox_by_its_code(rig: Rig) -> None:
    rig.answer = lambda task: None
    await rig.orchestrator()
    await rig.start("w", [node("a")], deadline_s=0.1)
    await rig.until("w", "PAUSED_HITL")
    row: Any = await rig.pool.fetchrow("SELECT kind, node_id, error_code FROM handrail.pause")
    assert dict(row) == {"kind": "failure", "node_id": None, "error_code": "deadline"}
