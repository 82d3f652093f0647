"""A parked workflow, on a real PostgreSQL: what leads on from it. Records are put back, left out, or it is given up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.orchestrator.rig import REGISTRY, Rig, node, ok, rig_on, started
from tests.waiting import wait_until

import handrail_orchestrator.application.batch as batch
import handrail_orchestrator.application.loading as loading
import handrail_orchestrator.application.parking as parking
from handrail_contracts.plan import Plan
from handrail_contracts.tasks import Outcome, Result, Task, TaskKind
from handrail_engine.inputs import GiveUp, PanicPause, Start, Wake
from handrail_engine.plan import compile_plan
from handrail_store import intake

_OPEN = "FROM handrail.quarantine WHERE kind = 'parked' AND trace_id = 'bad' AND state = 'open'"


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


class Bug:
    """Rules that fail on some inputs of workflow `bad`, as long as it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on: tuple[type, ...] = ()
        real = batch.decide

        def explode(state: Any, what: Any, now: Any) -> Any:
            if state.trace_id == "bad" and isinstance(what, self.on):
                raise RuntimeError("a bug in the rules")
            return real(state, what, now)

        monkeypatch.setattr(batch, "decide", explode)
        monkeypatch.setattr(parking, "decide", explode)


async def parked(rig: Rig) -> None:
    async def there() -> bool:
        return await rig.pool.fetchval(f"SELECT count(*) {_OPEN}") > 0

    await wait_until(there, description="it is parked, with a record")


async def looked_at_again(rig: Rig) -> None:
    """As the gateway has it, once its record is put back or left out."""
    async with rig.pool.acquire() as c, c.transaction():
        await intake.unpark(c, "default", await c.fetchval(f"SELECT id {_OPEN}"))
    await rig.command("bad", "look", {})


async def given_up(rig: Rig, **body: Any) -> None:
    await rig.command("bad", "give-up", {"compensate": True, "comment": "enough", **body})


async def taken(rig: Rig) -> int:
    return await rig.pool.fetchval("SELECT coalesce(sum(taken), 0)::int FROM handrail.place")


async def limited(rig: Rig) -> None:
    await rig.pool.execute(
        "INSERT INTO handrail.agent (name, action, version, manifest, registered_at, last_seen)"
        " VALUES ('worker', 'do', '1', '{\"agent_max_in_flight\": 5}', handrail.clock(), handrail.clock())"
    )


async def test_a_workflow_that_is_given_up_is_undone_where_the_rules_can_follow(rig: Rig, monkeypatch) -> None:
    bug = Bug(monkeypatch)
    await limited(rig)
    rig.answer = lambda task: None if task.node_id == "b" and task.kind is TaskKind.EXECUTE else ok(task)
    await rig.orchestrator()
    await rig.start("bad", [node("a"), node("b", "a")])
    await wait_until(lambda: [t for t in rig.tasks if t.node_id == "b"], description="b was sent")
    bug.on = (Result,)
    await rig.send(rig.record(ok(next(t for t in rig.tasks if t.node_id == "b"))))
    await parked(rig)
    assert await taken(rig) == 1, "it keeps its place while it stands still"
    bug.on = ()
    await given_up(rig)
    await wait_until(
        lambda: [t for t in rig.tasks if t.kind is TaskKind.CANCEL], description="b's attempt is asked to stop"
    )
    b = next(t for t in rig.tasks if t.kind is TaskKind.CANCEL)
    await rig.send(rig.record(ok(b).model_copy(update={"kind": TaskKind.EXECUTE})))
    await rig.until("bad", "COMPENSATED")
    view = await rig.view("bad")
    assert view["reason"] == "Given up by local: enough"
    assert [n["state"] for n in view["nodes"]] == ["COMPENSATED", "COMPENSATED"]
    assert await rig.pool.fetchval(f"SELECT count(*) {_OPEN}") == 0
    closed = await rig.pool.fetchrow("SELECT state_reason, closed_by, closed_at FROM handrail.quarantine")
    assert (closed["state_reason"], closed["closed_by"]) == ("Given up by local: enough", "local")
    assert closed["closed_at"] is not None
    assert await rig.pool.fetchval("SELECT parked_reason FROM handrail.workflow") is None
    await wait_until(lambda: _no_place(rig), description="its places came back")
    await rig.check()


async def _no_place(rig: Rig) -> bool:
    return await taken(rig) == 0


async def test_where_the_rules_cannot_follow_it_ends_as_failed_and_says_what_stands(rig: Rig, monkeypatch) -> None:
    bug = Bug(monkeypatch)
    await limited(rig)

    def answer(task: Task) -> Result | None:
        return ok(task) if task.node_id == "a" else started(task)

    rig.answer = answer
    await rig.orchestrator()
    await rig.start("bad", [node("a"), node("b", "a", timeouts={"lease_s": 300})])
    await rig.command("other", "start", {**_plan(), "input": {}})
    await wait_until(lambda: _state(rig, "b", "IN_PROGRESS"), description="b was claimed")
    await rig.command("bad", "pause", {"comment": "look at this"})
    await rig.until("bad", "PAUSED_HITL")
    bug.on = (Result, GiveUp, Wake)
    b = next(t for t in rig.tasks if t.node_id == "b" and t.trace_id == "bad")
    await rig.send(rig.record(ok(b)))
    await parked(rig)
    await rig.command("bad", "pause", {})
    await given_up(rig)
    await rig.until("bad", "FAILED")
    state = await rig.fold("bad")
    assert state.ended and not state.places
    view = await rig.view("bad")
    assert view["status"] == "FAILED" and not view["pauses"]
    assert (
        "Given up by local: enough. The rules could not wind it down (RuntimeError: a bug in the rules)"
        in view["reason"]
    )
    assert "Left standing: a." in view["reason"] and "outcome unknown: b." in view["reason"]
    letter = await rig.pool.fetchrow("SELECT kind, node_id, state FROM handrail.dead_letter WHERE trace_id = 'bad'")
    assert tuple(letter) == ("late_effect", "b", "open"), "nobody will ask about b any more: a person is told"
    assert await rig.pool.fetchval("SELECT state FROM handrail.pause WHERE trace_id = 'bad'") == "cancelled"
    assert await rig.pool.fetchval(f"SELECT count(*) {_OPEN}") == 0
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.command WHERE applied_pseq IS NULL") == 0
    assert await taken(rig) == 1, "only the other one has a place"
    bug.on = ()
    await rig.send(rig.record(ok(b)))
    await rig.start("later", [node("a")])
    await rig.until("later", "COMPLETED")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.dead_letter WHERE trace_id = 'bad'") == 1
    await rig.check()


@pytest.mark.parametrize(("compensate", "end"), [(True, "COMPENSATED"), (False, "CANCELLED")])
async def test_one_that_was_parked_before_its_first_event_ends_as_a_cancel_does(
    rig: Rig, monkeypatch, compensate: bool, end: str
) -> None:
    """Nothing was started, so nothing stands: there is nothing to undo, and nothing has failed."""
    bug = Bug(monkeypatch)
    bug.on = (Start,)
    await rig.orchestrator()
    await rig.start("bad", [node("a")])
    await parked(rig)
    await given_up(rig, compensate=compensate)
    await rig.until("bad", end)
    view = await rig.view("bad")
    assert (view["status"], view["reason"], view["nodes"]) == (end, "Given up by local: enough", [])
    assert await rig.pool.fetchval(f"SELECT count(*) {_OPEN}") == 0
    await rig.check()


async def test_one_whose_start_has_parked_it_is_listed_by_what_it_was_started_with(rig: Rig, monkeypatch) -> None:
    bug = Bug(monkeypatch)
    bug.on = (Start,)
    await rig.orchestrator()
    await rig.start("bad", [node("a")], blueprint="hire", intent="get them a laptop", labels={"team": "it"})
    shown = "SELECT blueprint, intent, labels FROM handrail.workflow WHERE trace_id = 'bad'"
    await parked(rig)
    assert tuple(await rig.pool.fetchrow(shown)) == ("hire", "get them a laptop", {"team": "it"})
    bug.on = ()
    await looked_at_again(rig)
    await rig.until("bad", "COMPLETED")
    assert tuple(await rig.pool.fetchrow(shown)) == ("hire", "get them a laptop", {"team": "it"})
    await rig.check()


async def test_one_whose_start_cannot_be_stored_is_parked_without_it(rig: Rig) -> None:
    await rig.orchestrator()
    await rig.start("bad", [node("a")], intent="no text\x00", blueprint="hire")
    await rig.start("other", [node("a")])
    await parked(rig)
    await rig.until("other", "COMPLETED")
    await given_up(rig)
    await rig.until("bad", "COMPENSATED")


def _plan() -> dict[str, Any]:

    plan = Plan.model_validate({"nodes": [node("b", timeouts={"lease_s": 300})]})
    return {"intent": None, "blueprint": None, "labels": {}, "plan": compile_plan(plan, REGISTRY)}


async def _state(rig: Rig, node_id: str, state: str) -> bool:
    return any(n["id"] == node_id and n["state"] == state for n in (await rig.view("bad"))["nodes"])


async def test_a_journal_that_cannot_be_folded_can_still_be_given_up(rig: Rig, monkeypatch) -> None:
    rig.answer = lambda task: ok(task) if task.node_id == "a" else None
    await limited(rig)
    first = await rig.orchestrator()
    await rig.start("bad", [node("a"), node("b", "a")])
    await wait_until(lambda: [t for t in rig.tasks if t.node_id == "b"], description="b was sent")
    await rig.crash(first)
    real = loading.fold

    def explode(tenant: str, trace_id: str, rows: Any, onto: Any = None) -> Any:
        if trace_id == "bad":
            raise ValueError("a row that nobody can read")
        return real(tenant, trace_id, rows, onto)

    monkeypatch.setattr(loading, "fold", explode)
    await rig.orchestrator()
    await rig.send(rig.record(ok(next(t for t in rig.tasks if t.node_id == "b"))))
    await parked(rig)
    await given_up(rig)
    await rig.until("bad", "FAILED")
    assert "ValueError: a row that nobody can read" in (await rig.view("bad"))["reason"]
    assert await taken(rig) == 0
    await rig.start("later", [node("a")])
    await rig.until("later", "COMPLETED")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.command WHERE applied_pseq IS NULL") == 0
    await rig.check()


async def test_one_that_time_has_parked_goes_on_when_it_is_looked_at_again(rig: Rig, monkeypatch) -> None:
    """No record and no order waits for it: the replay itself must wake it."""
    bug = Bug(monkeypatch)
    bug.on = (Wake,)
    rig.answer = lambda task: ok(task) if task.attempt > 1 else started(task)
    await rig.orchestrator()
    await rig.start("bad", [node("a", timeouts={"lease_s": 1})])
    await parked(rig)
    bug.on = ()
    await looked_at_again(rig)
    await rig.until("bad", "COMPLETED")


async def test_one_whose_record_is_left_out_finds_out_what_it_said_by_time(rig: Rig, monkeypatch) -> None:
    """As if the agent's answer had never come: the lease runs out, the attempt is tried again under the same key."""
    bug = Bug(monkeypatch)
    rig.answer = lambda task: ok(task) if task.attempt > 1 else started(task)
    await rig.orchestrator()
    await rig.start("bad", [node("a", timeouts={"lease_s": 2})])
    await wait_until(lambda: _state(rig, "a", "IN_PROGRESS"), description="a was claimed")
    bug.on = (Result, Wake)
    await rig.send(rig.record(ok(rig.tasks[0])))
    await parked(rig)
    bug.on = ()
    await looked_at_again(rig)
    await rig.until("bad", "COMPLETED")
    assert {t.effect_key for t in rig.tasks} == {rig.tasks[0].effect_key}


async def test_giving_up_what_stands_still_no_more_is_a_cancel(rig: Rig) -> None:
    rig.answer = lambda task: None
    await rig.orchestrator()
    await rig.start("bad", [node("a")])
    await rig.until("bad", "RUNNING")
    await rig.command("bad", "pause", {})
    await rig.until("bad", "PAUSED_HITL")
    await given_up(rig, compensate=False)
    await wait_until(lambda: [t for t in rig.tasks if t.kind is TaskKind.CANCEL], description="a is asked to stop")
    cancelled = ok(rig.tasks[0]).model_copy(update={"outcome": Outcome.CANCELLED, "output": None})
    await rig.send(rig.record(cancelled))
    await rig.until("bad", "CANCELLED")


async def test_each_of_many_that_are_parked_at_once_has_a_record_of_its_own(rig: Rig, monkeypatch) -> None:
    """In one batch, in one partition, in one millisecond."""
    real = batch.decide

    def explode(state: Any, what: Any, now: Any) -> Any:
        if isinstance(what, PanicPause):
            raise RuntimeError("a bug in the rules")
        return real(state, what, now)

    rig.answer = lambda task: None
    first = await rig.orchestrator()
    names = [f"w{i}" for i in range(6)]  # of four partitions one has at least two
    for name in names:
        await rig.start(name, [node("a")])
    for name in names:
        await rig.until(name, "RUNNING")
    await rig.end(first)
    for name in names:
        await rig.command(name, "pause", {})
    monkeypatch.setattr(batch, "decide", explode)
    await rig.orchestrator()

    async def all_set_aside() -> bool:
        return await rig.pool.fetchval("SELECT count(*) FROM handrail.workflow WHERE parked_reason IS NOT NULL") == 6

    await wait_until(all_set_aside, description="all of them are parked", timeout_s=120)
    kept = await rig.pool.fetch("SELECT trace_id FROM handrail.quarantine WHERE kind = 'parked' AND state = 'open'")
    assert sorted(r["trace_id"] for r in kept) == sorted(names)
