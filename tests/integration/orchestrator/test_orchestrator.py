"""The orchestrator on a real PostgreSQL: batches, fences, takeovers, adoption, and what it does with bad records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import orjson
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.orchestrator.rig import DIAMOND, P, Rig, failed, node, ok, rig_on, started
from tests.waiting import wait_until

from handrail_contracts import codec, ids, topics
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.events import MAX_EVENT_BYTES
from handrail_contracts.plan import Plan
from handrail_contracts.policy import Policy
from handrail_contracts.tasks import DeadLetter, Heartbeat, Outcome, Result, Task, TaskKind
from handrail_engine.inputs import PanicPause
from handrail_engine.plan import compile_plan
from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.adapters.statements import QUARANTINE
from handrail_orchestrator.application.ports import CommitUnknown
from handrail_runtime import memory
from handrail_runtime.ports import Outgoing
from handrail_store import intake


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


async def test_a_diamond_runs_through_and_every_row_is_published_in_order(rig: Rig) -> None:
    await rig.orchestrator()
    for i in range(50):
        await rig.start(f"w{i}")
    for i in range(50):
        await rig.until(f"w{i}", "COMPLETED")
    await rig.check()

    async def published() -> bool:
        found = await rig.published()
        return all(found.get(f"w{i}") == list(range(1, 14)) for i in range(50))

    await wait_until(published, description="13 events of each of 50 workflows, in order, once")
    view = await rig.view("w7")
    assert view["output"] == {"e": {"by": "e"}}
    assert [n["state"] for n in view["nodes"]] == ["COMPLETE"] * 5


async def test_a_clean_stop_gives_partitions_back_published_and_the_next_owner_goes_on(rig: Rig) -> None:
    rig.answer = lambda task: ok(task) if task.node_id == "a" else None
    first = await rig.orchestrator()
    await rig.start("w")
    await wait_until(lambda: {t.node_id for t in rig.tasks} == {"a", "b", "c", "d"}, description="b, c and d were sent")
    await rig.end(first)
    rows = await rig.pool.fetch("SELECT owner, next_pseq, published_upto FROM handrail.partition")
    assert all(r["owner"] is None and r["published_upto"] == r["next_pseq"] - 1 for r in rows)
    rig.answer = ok
    await rig.orchestrator()
    for t in [t for t in rig.tasks if t.node_id in "bcd"]:
        await rig.send(rig.record(ok(t)))
    await rig.until("w", "COMPLETED")
    await rig.check()


async def test_exhausted_retries_go_through_the_dead_letter_topic_to_a_person_and_back(rig: Rig) -> None:
    broken = {"c"}
    rig.answer = lambda task: failed(task) if task.node_id in broken and task.kind is TaskKind.EXECUTE else ok(task)
    await rig.orchestrator()
    await rig.start("w")
    await rig.until("w", "PAUSED_HITL")
    reader = await rig.bus.reader()
    reader.assign({(topics.DEAD_LETTERS, p): 0 for p in range(P)})
    assert len(await reader.read(10, 1.0)) == 1
    pause = (await rig.view("w"))["pauses"][0]
    assert pause["kind"] == "failure" and pause["node_id"] == "c" and len(pause["attempts"]) == 2
    assert pause["raw_evidence"]["body"] == {"error": "BROKEN"}
    letter = await rig.pool.fetchrow("SELECT state, pause_id, error_code FROM handrail.dead_letter")
    assert (letter["state"], letter["pause_id"], letter["error_code"]) == ("open", pause["pause_id"], "BROKEN")
    broken.clear()
    await rig.press("w", "RES_RETRY")
    await rig.until("w", "COMPLETED")
    assert await rig.pool.fetchval("SELECT state FROM handrail.dead_letter") == "replayed"
    assert await rig.pool.fetchval("SELECT applied FROM handrail.decision") is True
    assert await rig.pool.fetchval("SELECT state FROM handrail.pause") == "decided"
    await rig.check()


async def test_an_abort_undoes_in_reverse(rig: Rig) -> None:
    rig.answer = lambda task: (
        failed(task, retryable=False) if task.node_id == "e" and task.kind is TaskKind.EXECUTE else ok(task)
    )
    await rig.orchestrator()
    await rig.start("w")
    await rig.until("w", "PAUSED_HITL")
    await rig.press("w", "RES_ABORT_SAGA")
    await rig.until("w", "COMPENSATED")
    undone = [r.data["node_id"] for r in await rig.rows("w") if r.data.get("to") == "COMPENSATED"]
    assert sorted(undone) == ["a", "b", "c", "d"] and undone[-1] == "a"


async def test_an_orchestrator_that_dies_is_replaced_and_nothing_is_lost_or_done_twice(rig: Rig) -> None:
    for round_ in range(6):
        o = await rig.orchestrator()
        for i in range(20):
            await rig.start(f"r{round_}-{i}")
        await wait_until(lambda n=round_: len(rig.tasks) > n * 100 + 10, description="some of it is under way")
        await rig.crash(o)
    await rig.orchestrator()
    for round_ in range(6):
        for i in range(20):
            await rig.until(f"r{round_}-{i}", "COMPLETED", timeout_s=60)
    await rig.check()


async def test_a_bus_that_starts_empty_is_adopted_and_every_workflow_ends(rig: Rig) -> None:
    rig.answer = lambda task: ok(task) if task.node_id == "a" else None
    first = await rig.orchestrator()
    for i in range(10):
        await rig.start(f"w{i}")
    await wait_until(lambda: len(rig.tasks) == 40, description="b, c and d of all were sent")
    await rig.end(first)
    await rig.new_bus()
    rig.answer = ok
    await rig.orchestrator()
    for i in range(10):
        await rig.until(f"w{i}", "COMPLETED")
    await rig.check()


async def test_a_log_that_is_exchanged_while_its_partition_is_held_is_adopted(rig: Rig) -> None:
    """A topic deleted and made anew, and grown past our offset before we look: no read fails, and what lies before our offset
    would never be read."""
    owner = await rig.orchestrator(bus_check_s=0.2)
    for i in range(10):
        await rig.start(f"w{i}")
    for i in range(10):
        await rig.until(f"w{i}", "COMPLETED")
    rig.answer = lambda task: None
    await rig.start("late", [node("a")])
    await wait_until(lambda: rig.tasks[-1].trace_id == "late", description="its task was sent")
    p = ids.partition("default", "late", P)
    offsets = owner._own.held[p].offsets
    await wait_until(
        lambda: (seen := owner._watch._seen.get(p)) is not None and seen.offsets == offsets,
        description="a look has seen where the old log was read up to",
    )
    mine = [t for t in rig.tasks if ids.partition("default", t.trace_id, P) == p and t.trace_id != "late"]
    grown = [rig.record(ok(rig.tasks[-1])), *(3 * [rig.record(ok(t)) for t in mine])]
    assert len(grown) > rig.exchange(p, grown) > 0
    await rig.until("late", "COMPLETED")
    await rig.check()


async def test_what_cannot_be_read_of_a_topic_made_anew_is_set_aside_where_the_old_one_had_such_a_record_too(
    rig: Rig,
) -> None:
    owner = await rig.orchestrator(bus_check_s=0.2)
    p = ids.partition("default", "w", P)

    def answer(attempt: int) -> Outgoing:
        return rig.record(Result(trace_id="w", node_id="a", attempt=attempt, effect_key="k", outcome=Outcome.OK))

    def unreadable(value: bytes) -> Outgoing:
        return Outgoing(topics.RESULTS, b"default/w", value, answer(1).headers, p)

    async def set_aside() -> list[tuple[int, bytes]]:
        rows = await rig.pool.fetch('SELECT "offset", value FROM handrail.quarantine ORDER BY id')
        return [tuple(r) for r in rows]

    async def has(count: int) -> bool:
        return len(await set_aside()) == count

    await rig.send(unreadable(b"of the old log"), answer(1))
    await wait_until(lambda: has(1), description="the first is set aside")

    def looked() -> bool:
        seen = owner._watch._seen.get(p)
        return seen is not None and seen.offsets.get(topics.RESULTS, (0, None))[0] == 2

    await wait_until(looked, description="a look has seen where the old log was read up to")
    assert rig.exchange(p, [unreadable(b"of the new log"), answer(2)]) == 2
    await wait_until(lambda: has(2), description="the second is set aside")
    assert await set_aside() == [(0, b"of the old log"), (0, b"of the new log")]
    again = (
        "default",
        topics.RESULTS,
        p,
        0,
        *await rig.pool.fetchrow("SELECT bus_id, key, value FROM handrail.quarantine"),
    )
    await rig.pool.execute(QUARANTINE, *again, [], "read again", "undecodable", None)
    assert await has(2), "what is read again is kept once"


async def test_two_orchestrators_share_the_partitions_and_one_takes_over_from_the_other(rig: Rig) -> None:
    first = await rig.orchestrator()
    second = await rig.orchestrator()

    async def shared() -> bool:
        rows = await rig.pool.fetch("SELECT owner, count(*) AS n FROM handrail.partition GROUP BY owner")
        return sorted(r["n"] for r in rows) == [2, 2] and all(r["owner"] for r in rows)

    await wait_until(shared, description="each owns two of four partitions")
    for i in range(40):
        await rig.start(f"w{i}")
    for i in range(40):
        await rig.until(f"w{i}", "COMPLETED")
    await rig.crash(first)
    for i in range(40):
        await rig.start(f"v{i}")
    for i in range(40):
        await rig.until(f"v{i}", "COMPLETED")
    await rig.check()
    assert second is not first


async def test_a_zombie_is_fenced_by_the_epoch(rig: Rig) -> None:
    """It believes to own everything; every write it tries meets another epoch."""
    zombie = await rig.orchestrator()
    await rig.start("before")
    await rig.until("before", "COMPLETED")
    await rig.pool.execute(
        "UPDATE handrail.partition SET epoch = epoch + 1, owner = 'somebody', lease_until = clock_timestamp() + interval '2 s'"
    )
    await rig.start("after")
    await asyncio.sleep(0)
    rows = await rig.pool.fetchval("SELECT count(*) FROM handrail.journal WHERE trace_id = 'after'")
    assert rows == 0
    await rig.until("after", "COMPLETED")
    owners = {r["owner"] for r in await rig.pool.fetch("SELECT owner FROM handrail.partition")}
    assert "somebody" not in owners
    await rig.check()
    assert zombie


async def test_a_partition_that_was_somebody_elses_in_between_is_folded_anew(rig: Rig) -> None:
    """Its lease had run out again when we looked: lost and acquired in one step. What we remember of it is the past."""
    rig.answer = lambda task: None
    o = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "RUNNING")
    await wait_until(lambda: o._cache.get("w"), description="its owner has heard that it is stored")
    remembered = o._cache.get("w")
    assert remembered is not None
    await rig.pool.execute(
        "UPDATE handrail.partition SET epoch = epoch + 1, owner = 'somebody', lease_until = clock_timestamp() - interval '1 s'"
    )

    async def ours_again() -> bool:
        return await rig.pool.fetchval("SELECT count(*) FROM handrail.partition WHERE owner = 'somebody'") == 0

    await wait_until(ours_again, description="every partition taken back")
    await rig.start("x", [node("a")])
    await rig.until("x", "RUNNING")
    assert o._cache.get("w") is not remembered


async def test_a_partition_that_was_lost_hides_nothing_of_what_committed_in_the_others(rig: Rig, monkeypatch) -> None:
    """One commit over two partitions whose answer is lost; by the time we ask, one of them is somebody else's. That it
    moved says nothing, and the other one did: taken for not committed, its batch would be written a second time."""
    names = {ids.partition("default", f"w{i}", P): f"w{i}" for i in range(50)}
    one, other = names[0], names[1]
    real, lost = PostgresStore.commit, asyncio.Event()

    async def commit(self, batch):
        await real(self, batch)
        if {r.trace_id for r in batch.rows} == {one, other} and not lost.is_set():
            lost.set()
            await rig.pool.execute(
                "UPDATE handrail.partition SET epoch = epoch + 1, owner = 'somebody', "
                "lease_until = clock_timestamp() + interval '1 s' WHERE p = 0"
            )
            raise CommitUnknown("its answer is lost")

    monkeypatch.setattr(PostgresStore, "commit", commit)
    for trace_id in (one, other):
        await rig.start(trace_id, [node("a")])
    with capture_logs() as told:
        await rig.orchestrator()
        await asyncio.wait_for(lost.wait(), 30)
        for trace_id in (one, other):
            await rig.until(trace_id, "COMPLETED")
    assert "batch_cannot_be_stored" not in [t["event"] for t in told]

    async def published() -> bool:
        found = await rig.published()
        for trace_id in (one, other):
            rows = len(await rig.rows(trace_id))
            if list(dict.fromkeys(found.get(trace_id, ()))) != list(range(1, rows + 1)):
                return False
        return True

    await wait_until(published, description="every row was published, in order")
    await rig.check()


async def test_a_task_whose_topic_nobody_knows_is_left_to_its_wake_up_and_holds_up_no_other(rig: Rig) -> None:
    ghost = {("ghost", "do"): {"effect_class": "idempotent", "compensatable": True}}
    plan = compile_plan(Plan.model_validate({"nodes": [{**node("a"), "agent": "ghost"}]}), ghost)
    await rig.orchestrator()
    body = {"intent": None, "blueprint": None, "input": {}, "labels": {}, "plan": plan}
    with capture_logs() as told:
        for i in range(8):
            await rig.command(f"ghost{i}", "start", body)
            await rig.start(f"w{i}")
        await wait_until(
            lambda: [t["event"] for t in told].count("task_refused_by_bus") >= 8, description="each was passed over"
        )
    for i in range(8):
        await rig.until(f"w{i}", "COMPLETED")
        await rig.until(f"ghost{i}", "RUNNING")
    await rig.check()


async def test_garbage_on_any_topic_is_set_aside_and_stops_nothing(rig: Rig) -> None:
    await rig.orchestrator()
    await rig.start("w0")
    await rig.until("w0", "COMPLETED")
    garbage = [b"", b"\xff\xfe", b"{", b"[]", b'{"trace_id": 7}', None, b'"x"', b"null", b"[" * 5000]
    for topic in topics.OWNER_INPUTS:
        await rig.send(*(Outgoing(topic, b"k", g, [], 0) for g in garbage))
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s")]
    for topic in topics.OWNER_INPUTS:
        await rig.send(*(Outgoing(topic, b"k", g, headers, 1) for g in garbage))
    await rig.start("w1")
    await rig.until("w1", "COMPLETED")

    async def all_set_aside() -> bool:
        return await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine") == 2 * 3 * len(garbage)

    await wait_until(all_set_aside, description="every bad record is in quarantine")
    reasons = {r["reason"] for r in await rig.pool.fetch("SELECT DISTINCT reason FROM handrail.quarantine")}
    assert all(r.startswith("Expected ") for r in reasons)
    await rig.check()


async def test_duplicate_and_late_results_change_nothing(rig: Rig) -> None:
    held: list[Result] = []

    def twice(task: Task) -> Result | None:
        held.append(ok(task, {"n": len(held)}))
        return held[-1]

    rig.answer = twice
    await rig.orchestrator()
    await rig.start("w", [node("a"), node("b", "a")])
    await wait_until(lambda: len(held) >= 1, description="a was answered")
    for _ in range(3):
        await rig.send(*(rig.record(r) for r in list(held)))
    await rig.until("w", "COMPLETED")
    rows = await rig.rows("w")
    assert len([r for r in rows if r.data.get("to") == "COMPLETE"]) == 2
    await rig.check()


async def test_a_large_output_becomes_a_reference_and_its_reader_gets_the_value(rig: Rig) -> None:
    big = {"text": "x" * 120_000}
    rig.answer = lambda task: ok(task, big) if task.node_id == "a" else ok(task)
    await rig.orchestrator()
    await rig.start("w", [node("a"), node("b", "a", inputs={"all": {"$from": "nodes.a.output"}})])
    await rig.until("w", "COMPLETED")
    output = (await rig.view("w"))["nodes"][0]["output"]
    assert output["bytes"] == len('{"text":"') + 120_000 + 2 and output["$ref"].startswith("/workflows/w/blobs/sha256:")
    assert next(t for t in rig.tasks if t.node_id == "b").inputs["all"] == big


async def test_what_lies_inside_a_large_output_or_input_is_read_where_it_is(rig: Rig) -> None:
    big = {"ok": True, "n": {"deep": 5}, "lines": ["x" * 120_000, "last"]}
    rig.answer = lambda task: ok(task, big) if task.node_id == "a" else ok(task, task.inputs)
    await rig.orchestrator()
    wanted = {name: {"$from": f"nodes.a.output.{name}"} for name in ("ok", "n.deep", "lines.1")}
    lacks = {"none": {"$from": "nodes.a.output.none", "default": 1}, "nine": {"$from": "nodes.a.output.lines.9"}}
    given = {"in": {"$from": "input.lines.1"}, "small": {"$from": "input.ok"}}
    when = {"ref": "nodes.a.output.ok", "eq": True}
    nodes = [node("a"), node("b", "a", inputs={**wanted, **lacks, **given}, when=when)]
    await rig.start("w", nodes, input={**big, "lines": ["x" * 300_000, "said"]})
    await rig.until("w", "COMPLETED")
    [asked] = [t for t in rig.tasks if t.node_id == "b"]
    read = {"ok": True, "n.deep": 5, "lines.1": "last", "none": 1, "nine": None, "in": "said", "small": True}
    assert asked.inputs == read
    assert (await rig.view("w"))["input"]["$ref"].startswith("/workflows/w/blobs/sha256:")


async def test_no_end_and_no_decision_makes_an_event_too_large(rig: Rig) -> None:
    rig.answer = lambda task: (
        failed(task, retryable=False) if task.node_id == "n0" else ok(task, {"text": "x" * 40_000})
    )
    await rig.orchestrator()
    await rig.start("w", [node(f"n{i}") for i in range(8)])
    await rig.until("w", "PAUSED_HITL")
    await rig.press("w", "RES_SKIP", {"text": "x" * 300_000})
    await rig.until("w", "COMPLETED_WITH_SKIPS")
    rows = await rig.rows("w")
    assert max(len(orjson.dumps(r.data)) for r in rows) <= MAX_EVENT_BYTES
    stored = await rig.pool.fetch("SELECT digest, body FROM handrail.blob WHERE trace_id = 'w'")
    kept = {r["digest"]: orjson.loads(r["body"]) for r in stored}
    whole = kept[rows[-1].data["output"]["$ref"].rsplit("/", 1)[1]]
    assert whole["n1"] == {"text": "x" * 40_000}
    assert kept[whole["n0"]["$ref"].rsplit("/", 1)[1]] == {"text": "x" * 300_000}


async def test_a_pause_with_a_large_context_is_told_and_holds_nobody_up(rig: Rig) -> None:
    rig.answer = lambda task: failed(task, retryable=False) if task.trace_id == "w" else ok(task)
    await rig.orchestrator()
    context = {f"c{i}": "input.doc" for i in range(10)}
    await rig.start("w", [node("a", inputs={"doc": "x" * 600_000}, context=context)])
    await rig.until("w", "PAUSED_HITL")
    await rig.start("v", DIAMOND)
    await rig.until("v", "COMPLETED")
    rows = await rig.rows("w")
    assert max(len(orjson.dumps(r.data)) for r in rows) <= MAX_EVENT_BYTES
    ref = next(r.data for r in rows if r.type == "WORKFLOW_PAUSED_HITL")["context_snapshot"]["c7"]["$ref"]
    body = await rig.pool.fetchval("SELECT body FROM handrail.blob WHERE digest = $1", ref.rsplit("/", 1)[1])
    assert orjson.loads(body) == "x" * 600_000
    await rig.check()


async def test_a_task_that_no_bus_takes_is_a_failure_that_a_person_sees(rig: Rig) -> None:
    await rig.orchestrator()
    button = {"action_id": "RES_DOC", "display_text": "x", "kind": "retry", "sets": "d0", "requires_input": True}
    docs = {f"d{i}": "x" * 450_000 for i in range(14)}
    await rig.start("w", [node("a", inputs=docs, resolutions=[{**button, "input_schema": "text"}]), node("b", "a")])
    await rig.until("w", "PAUSED_HITL")
    pause = next(r.data for r in await rig.rows("w") if r.type == "WORKFLOW_PAUSED_HITL")
    assert pause["attempts"][-1]["error"]["code"] == "task-too-large"
    assert pause["failure_reason"].startswith("The task could not be handed to an agent: it takes 63")
    assert not [t for t in rig.tasks if t.node_id == "a"]
    await rig.check()


async def test_references_that_are_not_ours_are_data_and_end_nobody(rig: Rig) -> None:
    await rig.orchestrator()
    mark = ids.digest(b"1")
    odd = {"a": {"$ref": f"/workflows/w/blobs/{mark}", "path": 5}, "b": {"$ref": f"/workflows/v/blobs/{mark}"}}
    rig.answer = lambda task: ok(task, task.inputs)
    reads = {"x": {"$from": "nodes.a.output.a.path.0", "default": 1}, "y": {"$from": "input.b"}}
    await rig.start("w", [node("a", inputs=odd), node("b", "a", inputs=reads)], input=odd)
    await rig.until("w", "COMPLETED")
    assert [t.inputs for t in rig.tasks] == [odd, {"x": 1, "y": odd["b"]}]


async def test_a_dead_letter_that_returns_after_the_end_is_no_stranger(rig: Rig) -> None:
    """With `on_exhausted: skip` the workflow ends before its own dead letter comes back."""
    rig.answer = lambda task: failed(task, retryable=False)
    await rig.orchestrator()
    await rig.start("w", [node("a", on_exhausted="skip")])
    await rig.until("w", "COMPLETED_WITH_SKIPS")
    p = ids.partition("default", "w", P)
    e = Envelope("elsewhere/1", ce_type("dead_letter"), "/test")
    foreign = DeadLetter(trace_id="w", node_id="a", reason="from elsewhere")
    await rig.send(Outgoing(topics.DEAD_LETTERS, None, codec.encode(foreign), to_headers(e), p))

    async def aside() -> bool:
        return bool(await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine"))

    await wait_until(aside, description="the foreign dead letter is set aside")
    [record] = await rig.pool.fetch("SELECT reason, value FROM handrail.quarantine")
    assert record["reason"] == "Expected a dead letter of a node that exists, but: ended."
    assert b"from elsewhere" in record["value"]


async def test_a_failed_attempt_whose_key_is_closed_for_a_retry_is_not_answered_twice(rig: Rig) -> None:
    """The agent says `cancelled` once it has closed the old effect key: nothing that the journal does not know."""
    button = {"action_id": "RES_LINK", "display_text": "x", "kind": "retry", "requires_input": True, "sets": "url"}
    closed: list[Task] = []

    def answer(task: Task) -> Result:
        if task.kind is TaskKind.CANCEL:
            closed.append(task)
            return ok(task).model_copy(update={"outcome": Outcome.CANCELLED, "output": None})
        return ok(task) if task.node_id == "b" or "url" in task.inputs else failed(task, retryable=False)

    rig.answer = answer
    await rig.orchestrator()
    await rig.start("w", [node("a", resolutions=[{**button, "input_schema": "url"}]), node("b", "a")])
    await rig.until("w", "PAUSED_HITL")
    await rig.press("w", "RES_LINK", "https://vendor.example/x")
    await rig.until("w", "COMPLETED")
    assert [t.attempt for t in closed] == [1]
    assert not [r for r in await rig.rows("w") if r.type == "RESULT_IGNORED"]


async def test_a_claim_of_which_only_a_heartbeat_came_is_known_to_the_next_owner_too(rig: Rig) -> None:
    rig.answer = lambda task: None  # its `started` was lost
    first = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await wait_until(lambda: bool(rig.tasks), description="the task was sent")
    task = rig.tasks[0]
    beat = Heartbeat(**{k: getattr(task, k) for k in Heartbeat.model_fields if hasattr(task, k)}, worker="w1")
    key = ids.workflow_key("default", "w").encode()
    headers = to_headers(Envelope("beat-1", ce_type("heartbeat"), "/test"))
    p = ids.partition("default", "w", P)

    async def begun() -> bool:
        await rig.send(Outgoing(topics.HEARTBEATS, key, codec.encode(beat), headers, p))
        return (await rig.fold("w")).nodes["a"].state == "IN_PROGRESS"

    await wait_until(begun, description="the claim is in the journal")
    await rig.crash(first)
    a = (await rig.fold("w")).nodes["a"]
    assert a.worker == "w1" and a.live is not None and a.live.lease_until is not None
    await rig.orchestrator()
    await rig.send(rig.record(ok(task)))
    await rig.until("w", "COMPLETED")
    moves = [r.data["to"] for r in await rig.rows("w") if r.type == "NODE_STATE_CHANGED"]
    assert moves == ["SCHEDULED", "IN_PROGRESS", "COMPLETE"]
    await rig.check()


async def test_commands_are_applied_once_and_in_order_without_a_nudge(rig: Rig) -> None:
    rig.answer = lambda task: None
    await rig.orchestrator()
    await rig.start("w")
    await rig.command("w", "pause", {"comment": "stop"})
    await rig.until("w", "PAUSED_HITL")
    await rig.press("w", "RES_RESUME")
    await rig.until("w", "RUNNING")
    await rig.command("w", "cancel", {"compensate": False})
    await rig.until("w", "COMPENSATING")
    for t in [t for t in rig.tasks if t.kind is TaskKind.EXECUTE]:
        await rig.send(rig.record(ok(t)))
    await rig.until("w", "CANCELLED")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.command WHERE applied_pseq IS NULL") == 0


async def test_an_input_that_breaks_the_rules_parks_its_workflow_and_no_other(rig: Rig, monkeypatch) -> None:
    import handrail_orchestrator.application.batch as batch

    real = batch.decide

    def explode(state, what, now):
        if state.trace_id == "bad" and isinstance(what, Result):
            raise RuntimeError("a bug in the rules")
        return real(state, what, now)

    monkeypatch.setattr(batch, "decide", explode)
    await rig.orchestrator()
    await rig.start("bad")
    await rig.start("good")
    await rig.until("good", "COMPLETED")

    async def parked() -> bool:
        return await rig.pool.fetchval("SELECT parked_reason FROM handrail.workflow WHERE trace_id = 'bad'") is not None

    await wait_until(parked, description="the bad one is parked")
    assert (
        await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine WHERE kind = 'parked' AND trace_id = 'bad'")
        == 1
    )
    await rig.start("later")
    await rig.until("later", "COMPLETED")


async def test_rules_that_find_no_memory_end_their_orchestrator_and_park_nobody(rig: Rig, monkeypatch) -> None:
    import handrail_orchestrator.application.batch as batch

    real = batch.decide

    def explode(state, what, now):
        if isinstance(what, Result):
            raise MemoryError
        return real(state, what, now)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "decide", explode)
        patch.setattr(memory, "ENOUGH_BYTES", 2**62)  # as if there were none
        first = await rig.orchestrator()
        await rig.start("w")
        with pytest.raises(MemoryError):
            await rig.ended(first)
    await rig.orchestrator()
    await rig.until("w", "COMPLETED")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine") == 0


async def test_a_workflow_that_no_record_has_parked_has_one_whose_replay_lets_it_go_on(rig: Rig, monkeypatch) -> None:
    """A person's order, or time alone, may park too: `handrail quarantine replay` must be a way on."""
    import handrail_orchestrator.application.batch as batch

    real = batch.decide

    def explode(state, what, now):
        if isinstance(what, PanicPause):
            raise RuntimeError("a bug in the rules")
        return real(state, what, now)

    monkeypatch.setattr(batch, "decide", explode)
    rig.answer = lambda task: None
    await rig.orchestrator()
    await rig.start("bad", [node("a")])
    await rig.until("bad", "RUNNING")
    await rig.command("bad", "pause", {"comment": "stop"})
    where = "FROM handrail.quarantine WHERE kind = 'parked' AND trace_id = 'bad' AND state = 'open'"

    async def set_aside() -> bool:
        return await rig.pool.fetchval(f"SELECT count(*) {where}") == 1

    await wait_until(set_aside, description="a record that can be replayed")
    kept = await rig.pool.fetchrow(f"SELECT id, topic, partition, key, value, headers, reason {where}")
    assert "a bug in the rules" in kept["reason"]
    monkeypatch.setattr(batch, "decide", real)
    async with rig.pool.acquire() as c:
        await intake.unpark(c, "default", kept["id"])  # what a replay does
    headers = [(k, v.encode()) for k, v in kept["headers"]]
    await rig.send(Outgoing(kept["topic"], kept["key"], kept["value"], headers, kept["partition"]))
    await rig.until("bad", "PAUSED_HITL")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine") == 1


async def test_a_journal_that_cannot_be_folded_parks_its_workflow_and_no_other(rig: Rig, monkeypatch) -> None:
    """A new owner meets it first: whatever comes for it is set aside, and the owner lives on."""
    import handrail_orchestrator.application.loading as loading

    rig.answer = lambda task: None
    first = await rig.orchestrator()
    await rig.start("bad", [node("a")])
    await rig.until("bad", "RUNNING")
    await wait_until(lambda: rig.tasks, description="its task was sent")
    await rig.crash(first)
    real = loading.fold

    def explode(tenant, trace_id, rows, onto=None):
        if trace_id == "bad":
            raise RuntimeError("a row that these rules cannot fold")
        return real(tenant, trace_id, rows, onto)

    monkeypatch.setattr(loading, "fold", explode)
    rig.answer = ok
    await rig.orchestrator()
    await rig.send(rig.record(ok(rig.tasks[0])))
    await rig.start("good")
    await rig.until("good", "COMPLETED")

    async def parked() -> bool:
        reason = await rig.pool.fetchval("SELECT parked_reason FROM handrail.workflow WHERE trace_id = 'bad'")
        return reason is not None and "cannot fold" in reason

    await wait_until(parked, description="the bad one is parked")
    await rig.send(rig.record(ok(rig.tasks[0])))
    await rig.start("later")
    await rig.until("later", "COMPLETED")
    monkeypatch.setattr(loading, "fold", real)
    await rig.pool.execute("UPDATE handrail.workflow SET parked_reason = NULL, wake_at = handrail.clock()")
    await rig.send(rig.record(ok(rig.tasks[0])))
    await rig.until("bad", "COMPLETED")


async def test_a_journal_that_finds_no_memory_is_folded_by_the_next_owner(rig: Rig, monkeypatch) -> None:
    import handrail_orchestrator.application.loading as loading

    def explode(tenant, trace_id, rows, onto=None):
        raise MemoryError

    rig.answer = lambda task: None
    first = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await wait_until(lambda: rig.tasks, description="its task was sent")
    await rig.crash(first)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "fold", explode)
        patch.setattr(memory, "ENOUGH_BYTES", 2**62)  # as if there were none
        second = await rig.orchestrator()
        await rig.send(rig.record(ok(rig.tasks[0])))
        with pytest.raises(MemoryError):
            await rig.ended(second)
    await rig.orchestrator()
    await rig.until("w", "COMPLETED")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.quarantine") == 0


async def test_the_stored_state_is_the_fold_of_the_journal(rig: Rig) -> None:
    """What the owner has in memory at the end is what a fresh fold gives."""
    rig.answer = lambda task: failed(task) if task.node_id == "c" and task.attempt == 1 else ok(task)
    o = await rig.orchestrator()
    await rig.start("w", [*DIAMOND, node("f", "e", gate=None)])
    await rig.until("w", "COMPLETED")
    state = await rig.fold("w")
    assert state.ended and state.facts()["counts"] == {"COMPLETE": 6}
    assert o.checks()


async def test_an_effect_that_comes_to_light_after_the_end_waits_among_the_dead_letters(rig: Rig) -> None:
    late: list[Task] = []

    def slow(task: Task) -> Result | None:
        late.append(task)
        return None

    rig.answer = slow
    await rig.orchestrator()
    await rig.start("w", [node("a", timeouts={"lease_s": 2.0, "start_to_close_s": 2.0})])
    await wait_until(lambda: late, description="a was sent")
    await rig.send(rig.record(started(late[0])))
    await rig.command("w", "cancel", {"compensate": False})
    await rig.until("w", "CANCELLED")
    before = len(await rig.rows("w"))
    for _ in range(2):
        await rig.send(rig.record(ok(late[0])))

    async def found() -> bool:
        return (
            await rig.pool.fetchval(
                "SELECT count(*) FROM handrail.dead_letter WHERE kind = 'late_effect' AND state = 'open'"
            )
            == 1
        )

    await wait_until(found, description="the late effect is a dead letter, once")
    assert len(await rig.rows("w")) == before


async def test_nodes_that_an_agent_hands_in_are_judged_by_the_registry(rig: Rig) -> None:
    """The planner's plan names an agent that never registered: refused like any bad plan, and a person is asked."""
    nodes = [{"id": "x", "agent": "nobody", "action": "do"}]
    rig.answer = lambda task: ok(task).model_copy(update={"nodes": nodes})
    await rig.orchestrator()
    await rig.start("w", [node("a", may_add_nodes=5, retry={"max_attempts": 1})])
    await rig.until("w", "PAUSED_HITL")
    pause = (await rig.view("w"))["pauses"][0]
    assert "nobody" in pause["failure_reason"]


async def test_an_escalation_from_outside_tells_who_asked_in_the_transaction_of_the_event(rig: Rig) -> None:
    await rig.orchestrator()
    escalation = {
        "reason": "Charged twice.",
        "transcript": [{"role": "user", "text": "long " * 200, "at": "t"} for _ in range(120)],
        "handover_message": "A colleague takes over.",
    }
    outside = {"escalation": escalation, "pause_id": "p-out", "callback_url": "https://agents.example/hook"}
    await rig.command("out", "start", {"intent": "r", "outside": outside})
    await rig.until("out", "PAUSED_HITL")
    data = await rig.pool.fetchval("SELECT data FROM handrail.pause WHERE pause_id = 'p-out'")
    assert data["transcript"][-1]["$ref"].startswith("/workflows/out/blobs/sha256:")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.blob WHERE trace_id = 'out'") == 1
    await rig.press("out", "RES_RESPOND", "It is undone.")
    await rig.until("out", "COMPLETED")
    told = await rig.pool.fetch(
        "SELECT id, channel, pause_id, state, body FROM handrail.outbound ORDER BY (body->'data'->>'seq')::int"
    )
    assert {(r["channel"], r["pause_id"], r["state"], r["body"]["url"]) for r in told} == {
        ("callback", "p-out", "due", "https://agents.example/hook")
    }
    assert [(r["body"]["type"], r["body"]["data"].get("text")) for r in told] == [
        ("handrail.message_added", "A colleague takes over."),
        ("handrail.message_added", "It is undone."),
        ("handrail.hitl_resolved", None),
    ]
    assert [r["id"] for r in told] == [f"default/out/{r['body']['data']['seq']}" for r in told]


async def test_what_was_said_before_a_decision_is_written_down_before_it_ends_the_workflow(rig: Rig) -> None:
    outside = {"escalation": {"reason": "r"}, "pause_id": "p-talk"}
    o = await rig.orchestrator()
    await rig.command("talk", "start", {"intent": "r", "outside": outside})
    await rig.until("talk", "PAUSED_HITL")
    await rig.end(o)
    await rig.press("talk", "RES_CLOSE")
    # accepted before the decision, its row is read after it: commands are numbered when they are written, not when they commit
    await rig.command("talk", "message", {"pause_id": "p-talk", "role": "operator", "text": "Goodbye."})
    await rig.orchestrator()
    await rig.until("talk", "COMPLETED")
    types = [r.type for r in await rig.rows("talk")]
    assert types.index("MESSAGE_ADDED") < types.index("HITL_RESOLVED")


async def test_what_was_said_before_anybody_opened_the_conversation_stands_in_it(rig: Rig) -> None:
    outside = {"escalation": {"reason": "r"}, "pause_id": "p-early"}
    await rig.command("early", "start", {"intent": "r", "outside": outside})
    await rig.command("early", "message", {"pause_id": "p-early", "role": "user", "text": "Is anybody there?"})
    await rig.orchestrator()
    await rig.until("early", "PAUSED_HITL")

    async def said() -> bool:
        return "MESSAGE_ADDED" in [r.type for r in await rig.rows("early")]

    await wait_until(said, description="the message is written down")


async def test_a_decision_that_was_accepted_before_an_abort_was_applied_is_applied_too(rig: Rig) -> None:
    """Two people decide two pauses of one workflow before the owner looks: the abort waits for the other."""
    rig.answer = lambda task: failed(task, retryable=False)
    nodes = [node("a", pause_scope="branch"), node("b", pause_scope="branch")]
    o = await rig.orchestrator()
    await rig.start("two", nodes)

    async def both_open() -> bool:
        found = await rig.pool.fetchval("SELECT count(*) FROM handrail.pause WHERE trace_id = 'two' AND state = 'open'")
        return found == 2

    await wait_until(both_open, description="two pauses are open")
    await rig.end(o)
    pauses = await rig.pool.fetch("SELECT pause_id FROM handrail.pause WHERE trace_id = 'two' ORDER BY node_id")
    for pause, action in zip(pauses, ("RES_ABORT_SAGA", "RES_SKIP"), strict=True):
        await rig.pool.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at) "
            "VALUES ($1, 'two', 'decided', $2, 'ana', 'api', handrail.clock())",
            pause["pause_id"],
            action,
        )
        await rig.command("two", "decide", {"pause_id": pause["pause_id"]}, f"decide-{action}")
    await rig.orchestrator()
    await rig.until("two", "COMPENSATED")
    decided = await rig.pool.fetch(
        "SELECT d.action_id, d.outcome, p.state FROM handrail.decision d JOIN handrail.pause p USING (pause_id) "
        "WHERE d.trace_id = 'two' ORDER BY d.action_id"
    )
    assert [tuple(r) for r in decided] == [("RES_ABORT_SAGA", "decided", "decided"), ("RES_SKIP", "decided", "decided")]
    await rig.check()


async def test_a_track_record_outlives_its_process_and_is_everybodys(rig: Rig) -> None:
    """Twenty ends of attempts, some of them failures; a policy that asks for a good record judges by them after a restart."""
    rig.answer = lambda task: failed(task) if task.node_id == "b" and task.attempt == 1 else ok(task)
    o = await rig.orchestrator()
    for n in range(10):
        await rig.start(f"w{n}", [node("a"), node("b", retry={"initial_delay_s": 0})])
    for n in range(10):
        await rig.until(f"w{n}", "COMPLETED")
    rule = {"id": "shaky", "match": {"action": "act", "success_rate": {"lt": 0.7}}, "decide": "always"}
    store = PostgresStore(rig.pool, "test", "default", 5.0)

    async def told() -> bool:
        await rig.start(
            f"nudge-{asyncio.get_running_loop().time()}", [node("x")]
        )  # what happens next is when it is told
        known = await store.track_record({})
        return sum(of for _, of in known.values()) >= 30

    await wait_until(told, description="the record is told")
    await rig.end(o)
    counts = {key: count for key, count in (await store.track_record({})).items() if count[1] >= 30}
    ((agent, action), (good, of)) = next(iter(counts.items()))
    assert of - good == 10, counts
    await store.track_record({(agent, action): (0, of)})
    policy = Policy.model_validate(
        {"name": "p", "version": 1, "rules": [rule | {"match": {**rule["match"], "action": action}}]}
    )
    await store.save_policy(policy, "d", policy.model_dump_json(exclude_unset=True).encode())
    await rig.orchestrator()
    await rig.start("asked", [node("a")])
    await rig.until("asked", "PAUSED_HITL")
    told_to_a_person = await rig.pool.fetchval(
        "SELECT data->'risk'->>'rule_id' FROM handrail.pause WHERE trace_id = 'asked'"
    )
    assert told_to_a_person == "shaky"
    await rig.check()


async def test_a_decision_of_who_may_not_decide_is_withdrawn_and_another_person_can(rig: Rig) -> None:
    """It came by another way than the gateway's door: nothing follows from it, and it is in nobody's way."""
    rig.answer = ok
    await rig.orchestrator()
    gate = {"decide": "always", "four_eyes": True}
    await rig.start("w", [node("a", gate=gate)])
    await rig.until("w", "PAUSED_HITL")
    pause_id = await rig.pool.fetchval("SELECT pause_id FROM handrail.pause WHERE trace_id = 'w'")
    who = await rig.pool.fetchval("SELECT data->'risk'->>'requested_by' FROM handrail.pause WHERE trace_id = 'w'")

    async def decides(actor: str) -> None:
        await rig.pool.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at) "
            "VALUES ($1, 'w', 'decided', 'RES_APPROVE', $2, 'api', handrail.clock())",
            pause_id,
            actor,
        )
        await rig.command("w", "decide", {"pause_id": pause_id}, f"decide-{actor}")

    async def withdrawn() -> bool:
        return await rig.pool.fetchval("SELECT count(*) FROM handrail.decision") == 0

    await decides(who)
    await wait_until(withdrawn, description="the decision is withdrawn")
    assert await rig.pool.fetchval("SELECT state FROM handrail.pause") == "open"
    await decides("somebody else")
    await rig.until("w", "COMPLETED")
    await rig.check()


async def test_a_decision_made_while_the_owner_waits_for_its_lock_is_seen(rig: Rig) -> None:
    """The owner's statement began before the decision was there; its locks were given after it was."""
    rig.answer = lambda task: failed(task, retryable=False)
    o = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "PAUSED_HITL")
    await rig.end(o)
    pause_id = await rig.pool.fetchval("SELECT pause_id FROM handrail.pause WHERE trace_id = 'w'")
    store = PostgresStore(rig.pool, "test", "default", 5.0)

    async def decisions() -> list[str]:
        async with store.transaction() as tx:
            return [d.action_id for d in await tx.decisions([pause_id])]

    async def waits() -> bool:
        return await rig.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0

    async with rig.pool.acquire() as c, c.transaction():
        await c.execute("SELECT FROM handrail.pause WHERE pause_id = $1 FOR UPDATE", pause_id)
        asked = asyncio.create_task(decisions())
        await wait_until(waits, description="the owner waits for the lock")
        await c.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at) "
            "VALUES ($1, 'w', 'decided', 'RES_SKIP', 'ana', 'api', handrail.clock())",
            pause_id,
        )
    assert await asked == ["RES_SKIP"]


async def test_the_first_workflows_bring_statistics_so_that_plans_made_on_empty_tables_go(rig: Rig) -> None:
    await rig.orchestrator()
    for i in range(50):
        await rig.start(f"w{i}")

    async def known() -> bool:
        return await rig.pool.fetchval("SELECT reltuples FROM pg_class WHERE oid = 'handrail.workflow'::regclass") > 0

    await wait_until(known, description="statistics of the workflows", timeout_s=60)
