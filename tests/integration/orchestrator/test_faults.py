"""Faults of the catalogue that strike the owner itself, on a real PostgreSQL: garbled records, locks, deadlocks, deploys, clocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest_asyncio
from tests.integration.orchestrator.rig import P, Rig, failed, node, ok, rig_on
from tests.waiting import wait_until

from handrail_contracts import ids, topics
from handrail_contracts.tasks import Escalation, Failure, Outcome, Result, Task
from handrail_runtime.ports import Outgoing
from handrail_store import connect


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


def garbled(record: Outgoing, r: random.Random) -> Outgoing:
    """The record with something wrong: a byte, its length, a piece of another value, a header."""
    value, headers = bytearray(record.value or b""), list(record.headers)
    for _ in range(r.randint(1, 4)):
        at = r.randrange(len(value)) if value else 0
        match r.randrange(6):
            case 0:
                value[at : at + 1] = bytes([r.randrange(256)])
            case 1:
                del value[at:]
            case 2:
                value[at : at + r.randint(1, 8)] = r.choice(
                    [b"null", b"-1", b"1e400", b"[]", b"{}", b'""', b"true", b"\x00"]
                )
            case 3:
                value[at:at] = bytes(r.randrange(256) for _ in range(r.randint(1, 8)))
            case 4 if headers:
                name, old = headers.pop(r.randrange(len(headers)))
                headers.append((name, r.choice([b"", b"\xff", b"2.0", old * 2])))
            case _:
                value.reverse() if r.random() < 0.05 else None
    kept = r.choice([bytes(value)] * 19 + [None])
    return Outgoing(record.topic, record.key, kept, headers, record.partition)


async def test_garbled_answers_park_nobody_and_hold_up_nothing(rig: Rig) -> None:
    """3,000 mutations of what an agent says, among them some that can still be read: each is set aside or means nothing worse
    than what an agent may say."""
    r = random.Random(20_261_126)
    held: list[Task] = []
    rig.answer = lambda task: ok(task) if task.trace_id == "later" else held.append(task)
    await rig.orchestrator()
    for i in range(20):
        await rig.start(f"w{i}", [node("a"), node("b", "a")])
    await wait_until(lambda: len(held) == 20, description="an attempt of each is out")
    true = [rig.record(ok(t)) for t in held]
    for _ in range(30):
        await rig.send(*(garbled(r.choice(true), r) for _ in range(100)))

    async def read() -> bool:
        rows = await rig.pool.fetch("SELECT p, offsets FROM handrail.partition")
        ends = await rig.bus.ranges([(topics.RESULTS, p) for p in range(P)])
        return all((row["offsets"].get(topics.RESULTS) or [0])[0] == ends[topics.RESULTS, row["p"]].end for row in rows)

    await wait_until(read, description="every record was read", timeout_s=60)
    await rig.start("later", [node("a")])
    await rig.until("later", "COMPLETED")
    set_aside = await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine")
    assert set_aside > 1_000, "most of them are no answers at all"
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.workflow WHERE parked_reason IS NOT NULL") == 0
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine WHERE reason NOT LIKE 'Expected %'") == 0
    await rig.check()


async def test_a_null_character_in_what_an_agent_says_parks_nobody_and_asks_a_person_where_one_is_to_be_asked(
    rig: Rig,
) -> None:
    """PostgreSQL has no place for it: not in a text, not in jsonb, and no member of a json that holds one can be read."""

    def answer(task: Task) -> Result:
        said = failed(task, retryable=False)
        match task.trace_id:
            case "message":
                return said.model_copy(update={"error": Failure(code="BROKEN", message="out\0", retryable=False)})
            case "code":
                error = Failure(code="X\0", message="m", evidence={"\0": ["\0"]}, retryable=False)
                return said.model_copy(update={"error": error})
            case "reason":
                update = {"outcome": Outcome.ESCALATED, "error": None, "escalation": Escalation(reason="needs\0 one")}
                return said.model_copy(update=update)
            case _:
                return ok(task, {"x\0": ["a\0b"]})

    rig.answer = answer
    await rig.orchestrator()
    for trace_id in ("message", "code", "reason", "output"):
        await rig.start(trace_id, [node("a")])
    await rig.until("output", "COMPLETED")
    for trace_id in ("message", "code", "reason"):
        await rig.until(trace_id, "PAUSED_HITL")
    rows = await rig.pool.fetch("SELECT trace_id, error_code, data->>'failure_reason' AS reason FROM handrail.pause")
    told = {r["trace_id"]: (r["error_code"], r["reason"]) for r in rows}
    assert told["message"] == ("BROKEN", "out\ufffd") and told["code"][0] == "X\ufffd"
    assert told["reason"][1] == "needs\ufffd one"
    assert (await rig.view("output"))["output"] == {"a": {"x\ufffd": ["a\ufffdb"]}}

    rig.answer = lambda task: None
    await rig.start("foreign", [node("a")])
    await wait_until(lambda: any(t.trace_id == "foreign" for t in rig.tasks), description="it runs")
    where = ids.partition("default", "foreign", P)
    letter = b'{"trace_id": "foreign", "node_id": "a", "reason": "seen\\u0000twice"}'
    no_id = rig.record(ok(next(t for t in rig.tasks if t.trace_id == "foreign")))
    headers = [(name, b"i\0d" if name == "ce_id" else value) for name, value in no_id.headers]
    await rig.send(
        Outgoing(topics.RESULTS, no_id.key, no_id.value, headers, no_id.partition),
        Outgoing(topics.DEAD_LETTERS, None, letter, [], where),
    )
    await rig.until("foreign", "PAUSED_HITL")
    reason = "SELECT data->>'reason' FROM handrail.dead_letter WHERE trace_id = 'foreign' AND kind = 'foreign'"
    assert await rig.pool.fetchval(reason) == "seen\ufffdtwice"
    why = "SELECT reason FROM handrail.quarantine"
    await wait_until(lambda: rig.pool.fetchval(why), description="what has no id is set aside")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.workflow WHERE parked_reason IS NOT NULL") == 0
    await rig.check()


async def test_an_integer_beyond_64_bits_in_what_an_agent_says_parks_nobody(rig: Rig) -> None:
    wei = 10**25

    def answer(task: Task) -> Result:
        if task.trace_id == "evidence":
            error = Failure(code="BROKEN", message="m", evidence={"wei": wei}, retryable=False)
            return failed(task, retryable=False).model_copy(update={"error": error})
        return ok(task, {"wei": wei}).model_copy(update={"usage": {"input_tokens": wei, "output_tokens": 3}})

    rig.answer = answer
    await rig.orchestrator()
    for trace_id in ("evidence", "output"):
        await rig.start(trace_id, [node("a")])
    await rig.until("output", "COMPLETED")
    await rig.until("evidence", "PAUSED_HITL")
    assert (await rig.view("output"))["output"] == {"a": {"wei": str(wei)}}
    evidence = "SELECT data->'raw_evidence'->'body'->>'wei' FROM handrail.pause"
    assert await rig.pool.fetchval(evidence) == str(wei)
    await rig.check()


async def test_a_deadlock_costs_the_owner_a_try_and_nothing_else(rig: Rig) -> None:
    """Somebody locks a partition's row and then a pause, the owner the pause and then the partition."""
    rig.answer = lambda task: None
    owner = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "RUNNING")
    await rig.command("w", "pause", {})
    await rig.until("w", "PAUSED_HITL")
    p, pause_id = await rig.pool.fetchrow(
        "SELECT p, pause_id FROM handrail.pause JOIN handrail.workflow USING (trace_id)"
    )
    other = await connect.pool(rig.dsn, app="other", max_size=1)
    try:
        async with other.acquire() as c, c.transaction():
            await c.execute(
                "SET LOCAL deadlock_timeout = '60s'; SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '60s'"
            )
            owner._stepped += 60.0  # no renewal of its leases, which would wait for the partition alone
            await c.execute("SELECT FROM handrail.partition WHERE p = $1 FOR UPDATE", p)
            await rig.press("w", "RES_RESUME")

            async def waits() -> bool:
                return await rig.pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%handrail.fence%'"
                    " AND datname = current_database() AND pid <> pg_backend_pid()"
                )

            await wait_until(waits, description="the owner has the pause and waits for the partition")
            await c.execute("SELECT FROM handrail.pause WHERE pause_id = $1 FOR UPDATE", pause_id)
    finally:
        await other.close()
    await rig.until("w", "RUNNING")

    async def deadlocked() -> bool:
        return await rig.pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

    await wait_until(deadlocked, description="PostgreSQL has counted the deadlock")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.decision WHERE applied") == 1
    await rig.check()


async def test_owners_that_come_and_go_under_load_lose_and_double_nothing(rig: Rig) -> None:
    """A rolling upgrade: a new one comes, the old one leaves, again and again, while workflows run."""
    begun = await rig.orchestrator()
    names: list[str] = []
    for turn in range(5):
        for i in range(8):
            names.append(await rig.start(f"w{turn}-{i}"))
        fresh = await rig.orchestrator()
        await rig.end(begun)
        begun = fresh
    for name in names:
        await rig.until(name, "COMPLETED")
    await rig.check()
    assert len({(t.trace_id, t.node_id) for t in rig.tasks}) == len(names) * 5
    assert {t.attempt for t in rig.tasks} == {1}, "nobody's attempt was given up for a deploy"


async def test_deadlines_that_all_fall_due_at_once_are_met_in_bounded_batches_beside_other_work(rig: Rig) -> None:
    rig.answer = lambda task: ok(task) if task.trace_id.startswith("late") else None
    await rig.orchestrator(batch=20)
    patient = [node("a", timeouts={"schedule_to_start_s": 86_400})]
    await asyncio.gather(*(rig.start(f"w{i}", patient, deadline_s=3600) for i in range(300)))

    async def count(where: str) -> int:
        return await rig.pool.fetchval(f"SELECT count(*) FROM handrail.workflow WHERE {where}")

    async def all_run() -> bool:
        return await count("status = 'RUNNING'") == 300

    await wait_until(all_run, description="300 wait for their deadline")
    await rig.pool.execute("UPDATE handrail.clock SET offset_ms = offset_ms + 7200000")
    for i in range(5):
        await rig.start(f"late{i}", [node("a")])
    for i in range(5):
        await rig.until(f"late{i}", "COMPLETED")

    async def all_asked() -> bool:
        return await count("status = 'PAUSED_HITL'") == 300

    await wait_until(all_asked, description="each asks a person about its deadline", timeout_s=60)
    found: list[Any] = await rig.pool.fetch("SELECT error_code, count(*) AS n FROM handrail.pause GROUP BY error_code")
    assert [(f["error_code"], f["n"]) for f in found] == [("deadline", 300)]
    await rig.check()
