"""What an agents process promises, whatever brings its tasks: the plain driver on each bus, and Faust on Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from handrail_contracts import topics
from handrail_contracts.ids import partition
from handrail_contracts.model import ms_of
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import MAX_RESULT_BYTES, Outcome, Task, TaskKind
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Bus, Outgoing
from handrail_runtime.testing import wait_until
from handrail_sdk.context import Context
from handrail_sdk.failures import INVALID_RESULT, NOT_FOUND, Fail, Garbage, Silence
from handrail_store import connect, migrate
from tests.agents_rig import Rig, Stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[asyncpg.Pool[asyncpg.Record]]:
    await migrate.upgrade(postgres_dsn, 4)
    made = await connect.pool(postgres_dsn, app="test-agents", max_size=8)
    yield made
    made.terminate()


@pytest.fixture(
    scope="module",
    params=[
        "memory-bus",
        pytest.param("kafka-bus", marks=pytest.mark.kafka),
        pytest.param("kafka-faust", marks=pytest.mark.kafka),
    ],
)
def kind(request: pytest.FixtureRequest) -> tuple[str, Bus]:
    engine, driver = request.param.split("-")
    bus: Bus = MemoryBus() if engine == "memory" else KafkaBus(request.getfixturevalue("kafka_bootstrap"))
    return driver, bus


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(kind: tuple[str, Bus], pool: asyncpg.Pool[asyncpg.Record]) -> AsyncGenerator[Rig]:
    driver, bus = kind
    made = Rig(bus, pool, driver)
    await made.start()
    yield made
    await made.close()
    await bus.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(rig: Rig) -> Stage:
    """An agent served for the whole module."""
    made = Stage()
    await rig.serve([made.agent])
    return made


def _held(stage: Stage, task: Task, answer: Any = None) -> asyncio.Event:
    """The task runs until the event is set."""
    go = asyncio.Event()

    async def play(_: Context) -> Any:
        await go.wait()
        return answer

    stage.plays[task.trace_id] = play
    return go


def _raising(stage: Stage, task: Task, error: BaseException) -> None:
    async def play(_: Context) -> Any:
        raise error

    stage.plays[task.trace_id] = play


# ---- how an attempt ends


async def test_an_answer_carries_output_worker_and_times(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.OK)
    assert r.output == {"attempt": 1}
    assert r.worker
    assert r.started_at is not None and r.finished_at is not None
    assert abs(ms_of(r.started_at) - await rig.now_ms()) < 60_000
    assert ms_of(r.started_at) <= ms_of(r.finished_at)
    row = await rig.row(task.effect_key)
    assert row is not None and (row["state"], row["attempt"], row["worker"]) == ("DONE", 1, r.worker)


async def test_answers_lie_where_the_owner_of_the_workflow_reads(rig: Rig, stage: Stage) -> None:
    tasks = [await rig.task(stage) for _ in range(8)]
    await rig.send(*tasks)
    for task in tasks:
        await rig.answer(task, Outcome.OK)
    reader = await rig.bus.reader()
    wanted = {f"default/{t.trace_id}".encode(): partition("default", t.trace_id, rig.partitions) for t in tasks}
    parts = [(topics.RESULTS, p) for p in range(rig.partitions)]
    reader.assign({at: log.start for at, log in (await rig.bus.ranges(parts)).items()})
    found: dict[bytes, tuple[int, dict[str, bytes]]] = {}

    async def all_found() -> bool:
        for r in await reader.read(500, 1.0):
            if r.key in wanted:
                found[r.key] = (r.partition, dict(r.headers))
        return len(found) == len(wanted)

    await wait_until(all_found, description="all answers in the log", timeout_s=30)
    await reader.close()
    assert {key: p for key, (p, _) in found.items()} == wanted
    for task in tasks:
        headers = found[f"default/{task.trace_id}".encode()][1]
        assert headers["ce_id"].decode() == f"{task.effect_key}/1/ok"
        assert headers["ce_type"] == b"dev.handrail.result_ok.v1"


async def test_a_fail_is_a_definite_failure_with_its_evidence(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    _raising(stage, task, Fail("SKU_UNAVAILABLE", "none left", {"status": 404}, retryable=False, retry_after_s=2.5))
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.FAILED)
    assert r.error is not None
    assert r.error.model_dump() == {
        "code": "SKU_UNAVAILABLE",
        "message": "none left",
        "evidence": {"status": 404},
        "retryable": False,
        "retry_after_s": 2.5,
    }
    row = await rig.row(task.effect_key)
    assert row is not None and row["state"] == "FAILED"


async def test_any_other_exception_is_doubt_and_no_traceback_leaves(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    _raising(stage, task, ZeroDivisionError("by zero\nand a second line with secrets"))
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.IN_DOUBT)
    assert r.error is not None
    assert (r.error.code, r.error.message, r.error.evidence) == ("ZeroDivisionError", "by zero", None)
    row = await rig.row(task.effect_key)
    assert row is not None and row["state"] == "INTENT"


async def test_escalation_and_proposal_are_answered_as_such(rig: Rig, stage: Stage) -> None:
    async def escalate(ctx: Context) -> Any:
        await ctx.escalate_to_human("angry customer", summary="wants a person")

    async def propose(ctx: Context) -> Any:
        await ctx.propose("refund", {"amount": 500}, confidence=0.4)

    first, second = await rig.task(stage), await rig.task(stage)
    stage.plays[first.trace_id], stage.plays[second.trace_id] = escalate, propose
    await rig.send(first, second)
    [a] = await rig.answer(first, Outcome.ESCALATED)
    [b] = await rig.answer(second, Outcome.PROPOSED)
    assert a.escalation is not None and a.escalation.reason == "angry customer"
    assert b.proposed is not None and b.proposed.args == {"amount": 500}


async def test_garbage_is_no_result_and_ends_a_claimed_attempt_in_silence(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, lease_s=0.3)
    _raising(stage, task, Garbage())
    await rig.send(task)
    key = f"default/{task.trace_id}".encode()
    await wait_until(lambda: any(r.key == key for r in rig.raw), description="the garbage", timeout_s=30)
    await rig.settled(stage, task)
    assert [r.outcome for r in rig.of(task)] == [Outcome.STARTED]
    assert not [h for h in rig.heartbeats if h.trace_id == task.trace_id]


async def test_silence_says_that_it_started_and_never_more(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, lease_s=0.3)
    _raising(stage, task, Silence())
    await rig.send(task)
    await rig.answer(task, Outcome.STARTED)
    await rig.settled(stage, task)
    assert [r.outcome for r in rig.of(task)] == [Outcome.STARTED]
    assert not [h for h in rig.heartbeats if h.trace_id == task.trace_id]


async def test_start_to_close_stops_an_attempt_in_doubt(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, start_to_close_s=0.3)
    _held(stage, task)
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.IN_DOUBT)
    assert r.error is not None and r.error.code == "start-to-close"


@pytest.mark.parametrize(
    ("effect", "outcome"), [(EffectClass.PURE, Outcome.FAILED), (EffectClass.IDEMPOTENT, Outcome.IN_DOUBT)]
)
async def test_a_result_that_fits_into_no_record_is_told_with_its_reason(
    rig: Rig, stage: Stage, effect: EffectClass, outcome: Outcome
) -> None:
    async def play(_: Context) -> Any:
        return "x" * (MAX_RESULT_BYTES + 1)

    task = await rig.task(stage, effect_class=effect)
    stage.plays[task.trace_id] = play
    await rig.send(task)
    [r] = await rig.answer(task, outcome)
    assert r.error is not None and (r.error.code, r.error.retryable) == ("result-too-large", False)


@pytest.mark.parametrize(
    ("effect", "outcome"), [(EffectClass.PURE, Outcome.FAILED), (EffectClass.IDEMPOTENT, Outcome.IN_DOUBT)]
)
async def test_an_output_that_does_not_fit_leaves_its_effect_to_be_undone(
    rig: Rig, stage: Stage, effect: EffectClass, outcome: Outcome
) -> None:
    task = await rig.task(stage, effect_class=effect)
    _raising(stage, task, Fail(INVALID_RESULT, "the function returned, but not what it declares"))
    await rig.send(task)
    [r] = await rig.answer(task, outcome)
    assert r.error is not None and r.error.code == "invalid-result"
    row = await rig.row(task.effect_key)
    assert row is None if effect is EffectClass.PURE else row is not None and row["state"] == "INTENT"


async def test_a_cancellation_that_nobody_asked_for_is_doubt(rig: Rig, stage: Stage) -> None:
    for effect in (EffectClass.PURE, EffectClass.IDEMPOTENT):
        task = await rig.task(stage, effect_class=effect)
        _raising(stage, task, asyncio.CancelledError())
        await rig.send(task)
        [r] = await rig.answer(task, Outcome.IN_DOUBT)
        assert r.error is not None and r.error.code == "CancelledError"


async def test_a_late_answer_comes_when_lease_and_limit_have_passed_in_silence(rig: Rig, stage: Stage) -> None:
    go = asyncio.Event()

    async def play(ctx: Context) -> Any:
        ctx.fall_silent()
        await go.wait()
        return "late"

    late = await rig.task(stage, lease_s=0.2, start_to_close_s=0.2)
    other = await rig.task(stage, lease_s=0.2)
    stage.plays[late.trace_id] = play
    free = _held(stage, other)
    await rig.send(late, other)

    def beats(task: Task) -> int:
        return sum(h.trace_id == task.trace_id for h in rig.heartbeats)

    await rig.answer(late, Outcome.STARTED)
    await wait_until(lambda: beats(other) >= 8, description="that limit passed twice, shown by another", timeout_s=30)
    assert [r.outcome for r in rig.of(late)] == [Outcome.STARTED]
    assert beats(late) == 0
    go.set()
    free.set()
    r = (await rig.answer(late, Outcome.OK))[-1]
    assert r.output == "late"


async def test_the_largest_result_that_fits_arrives(rig: Rig, stage: Stage) -> None:
    async def play(_: Context) -> Any:
        return "x" * (MAX_RESULT_BYTES - 1_000)

    task = await rig.task(stage)
    stage.plays[task.trace_id] = play
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.OK)
    assert len(r.output) == MAX_RESULT_BYTES - 1_000


async def test_evidence_that_is_too_large_does_not_hide_the_failure(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    _raising(stage, task, Fail("VENDOR", "said too much", "x" * (MAX_RESULT_BYTES + 1)))
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.FAILED)
    assert r.error is not None and r.error.code == "VENDOR"


async def test_an_action_that_nobody_here_knows_is_a_definite_failure(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, action="unheard-of")
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.FAILED)
    assert r.error is not None and r.error.code == "unknown-action"


# ---- claims


async def test_a_task_delivered_twice_runs_once(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task, task, task)
    await rig.answer(task, Outcome.OK)
    await rig.settled(stage, task)
    assert stage.runs.count((task.trace_id, "n", 1)) == 2  # the other one is the probe's
    assert all(r.output == {"attempt": 1} for r in rig.of(task, Outcome.OK))


async def test_an_attempt_that_runs_is_answered_started_when_delivered_again(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    go = _held(stage, task)
    await rig.send(task)
    [first] = await rig.answer(task, Outcome.STARTED)
    await rig.send(task)
    again = await rig.answer(task, Outcome.STARTED, count=2)
    assert again[1].started_at == first.started_at
    go.set()
    await rig.answer(task, Outcome.OK)
    assert stage.count(task.trace_id) == 1


async def test_an_attempt_claimed_elsewhere_is_answered_started_with_its_time(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await _claimed_elsewhere(rig, task)
    await rig.send(task)
    [r] = await rig.answer(task, Outcome.STARTED)
    assert (r.worker, r.started_at) == ("another", "2026-01-02T03:04:05.000Z")
    assert stage.count(task.trace_id) == 0


async def test_a_later_attempt_takes_over_and_an_earlier_one_does_not(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, attempt=2)
    await _claimed_elsewhere(rig, task.model_copy(update={"attempt": 1}))
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    late = await rig.task(stage, attempt=2)
    await _claimed_elsewhere(rig, late.model_copy(update={"attempt": 3}))
    await rig.send(late)
    await rig.settled(stage, late)
    assert rig.of(late) == []


async def test_nothing_starts_after_its_time(rig: Rig, stage: Stage) -> None:
    for effect in (EffectClass.IDEMPOTENT, EffectClass.PURE):
        task = await rig.task(stage, effect_class=effect, in_s=-1)
        await rig.send(task)
        await rig.settled(stage, task)
        assert rig.of(task) == []
        assert await rig.row(task.effect_key) is None
        assert stage.count(task.trace_id) == 1  # the probe


async def test_what_is_done_is_answered_again_and_not_done_again(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    await rig.send(task.model_copy(update={"attempt": 2}))
    await wait_until(lambda: any(r.attempt == 2 for r in rig.of(task)), description="the second answer", timeout_s=30)
    second = next(r for r in rig.of(task) if r.attempt == 2)
    assert (second.outcome, second.output) == (Outcome.OK, {"attempt": 1})
    assert stage.count(task.trace_id) == 1


async def test_a_failure_whose_answer_was_lost_is_answered_again(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    _raising(stage, task, Fail("NO", "not today"))
    await rig.send(task)
    await rig.answer(task, Outcome.FAILED)
    await rig.send(task)
    first, second = await rig.answer(task, Outcome.FAILED, count=2)
    assert first == second
    assert stage.count(task.trace_id) == 1


async def test_a_pure_task_never_touches_the_ledger(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, effect_class=EffectClass.PURE)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    assert await rig.row(task.effect_key) is None


async def test_a_look_up_tells_whether_it_happened(rig: Rig, stage: Stage) -> None:
    async def missing(_: Context) -> Any:
        raise Fail(NOT_FOUND, "no such order")

    async def found(_: Context) -> Any:
        return {"po": 7}

    for look_up, outcome, state in ((missing, Outcome.FAILED, "FAILED"), (found, Outcome.OK, "DONE")):
        task = await rig.task(stage, effect_class=EffectClass.QUERYABLE)
        stage.look_ups[task.trace_id] = look_up
        await _claimed_elsewhere(rig, task)
        await rig.send(task.model_copy(update={"kind": TaskKind.LOOK_UP, "attempt": 2}))
        [r] = await rig.answer(task, outcome)
        assert (r.kind, r.attempt) == (TaskKind.LOOK_UP, 2)
        row = await rig.row(task.effect_key)
        assert row is not None and row["state"] == state


# ---- cancels


async def test_a_cancel_of_what_never_started_leaves_a_tombstone(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(_cancel(task))
    [r] = await rig.answer(task, Outcome.CANCELLED)
    assert (r.kind, r.attempt) == (TaskKind.EXECUTE, 1)
    row = await rig.row(task.effect_key)
    assert row is not None and (row["state"], row["worker"]) == ("TOMBSTONE", None)
    await rig.send(task)
    await rig.answer(task, Outcome.CANCELLED, count=2)
    assert stage.count(task.trace_id) == 0


async def test_a_cancel_interrupts_what_runs_and_that_is_doubt(rig: Rig, stage: Stage) -> None:
    seen: list[bool] = []

    async def play(ctx: Context) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.cancelled.is_set())

    task = await rig.task(stage)
    stage.plays[task.trace_id] = play
    await rig.send(task)
    await rig.answer(task, Outcome.STARTED)
    await rig.send(_cancel(task))
    [r] = await rig.answer(task, Outcome.IN_DOUBT)
    assert r.error is not None and r.error.code == "cancelled"
    assert seen == [True]


async def test_a_cancelled_attempt_that_finishes_anyway_says_ok(rig: Rig, stage: Stage) -> None:
    async def play(ctx: Context) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"done": ctx.cancelled.is_set()}

    task = await rig.task(stage)
    stage.plays[task.trace_id] = play
    await rig.send(task)
    await rig.answer(task, Outcome.STARTED)
    await rig.send(_cancel(task))
    [r] = await rig.answer(task, Outcome.OK)
    assert r.output == {"done": True}


async def test_a_cancel_of_what_is_done_answers_what_was_done(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    await rig.send(_cancel(task))
    answers = await rig.answer(task, Outcome.OK, count=2)
    assert [r.output for r in answers] == [{"attempt": 1}] * 2


async def test_a_cancel_of_what_another_worker_has_begun_is_told_so(rig: Rig, stage: Stage) -> None:
    """That worker may be gone, and what it said lost: silence would pass for an attempt that nobody has begun."""
    task = await rig.task(stage)
    await _claimed_elsewhere(rig, task)
    await rig.send(_cancel(task))
    [r] = await rig.answer(task, Outcome.STARTED)
    assert r.worker == "another"
    row = await rig.row(task.effect_key)
    assert row is not None and row["state"] == "INTENT"


# ---- undos


async def test_an_undo_gets_what_was_answered(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    for i, given in enumerate((None, {"attempt": 1})):
        undo = rig.undo_of(task, output=given).model_copy(update={"effect_key": f"{task.effect_key}/undo/{i}"})
        await rig.send(undo)
        [r] = await rig.answer(undo, Outcome.OK)
        assert (r.kind, r.output) == (TaskKind.COMPENSATE, {"undone": {"attempt": 1}})


@pytest.mark.parametrize("failed", [False, True])
async def test_there_is_nothing_to_undo_where_nothing_ran_and_a_late_original_does_nothing(
    rig: Rig, stage: Stage, failed: bool
) -> None:
    task = await rig.task(stage)
    if failed:
        _raising(stage, task, Fail("NO"))
        await rig.send(task)
        await rig.answer(task, Outcome.FAILED)
    undo = rig.undo_of(task)
    await rig.send(undo)
    [r] = await rig.answer(undo, Outcome.OK)
    assert r.output == {"nothing_to_undo": True}
    await rig.send(task.model_copy(update={"attempt": 2}))
    await rig.answer(task, Outcome.CANCELLED)
    assert stage.count(task.trace_id) == int(failed)


async def test_what_may_have_happened_is_undone_each_time_it_is_asked(rig: Rig, stage: Stage) -> None:
    failing = [True]

    async def undo(output: Any, _: Context) -> Any:
        if failing:
            failing.clear()
            raise Fail("BUSY")
        return {"undone": output}

    task = await rig.task(stage)
    _raising(stage, task, RuntimeError("midway"))
    stage.undos[task.trace_id] = undo
    await rig.send(task)
    await rig.answer(task, Outcome.IN_DOUBT)
    first = rig.undo_of(task)
    await rig.send(first)
    await rig.answer(first, Outcome.FAILED)
    row = await rig.row(task.effect_key)
    assert row is not None and row["state"] == "TOMBSTONE" and row["worker"] is not None
    await rig.send(rig.undo_of(task, attempt=2))
    [r] = await rig.answer(first, Outcome.OK)
    assert (r.attempt, r.output) == (2, {"undone": None})


async def test_a_failure_after_a_doubt_leaves_the_doubt(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    _raising(stage, task, RuntimeError("midway"))
    await rig.send(task)
    await rig.answer(task, Outcome.IN_DOUBT)
    _raising(stage, task, Fail("NO"))
    await rig.send(task.model_copy(update={"attempt": 2}))
    await rig.answer(task, Outcome.FAILED)
    undo = rig.undo_of(task)
    await rig.send(undo)
    [r] = await rig.answer(undo, Outcome.OK)
    assert r.output == {"undone": None}


async def test_the_undo_of_a_pure_task_runs_with_its_output(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage, effect_class=EffectClass.PURE)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    undo = rig.undo_of(task, output={"attempt": 1})
    await rig.send(undo)
    [r] = await rig.answer(undo, Outcome.OK)
    assert r.output == {"undone": {"attempt": 1}}


async def test_an_action_of_its_own_may_be_the_undo(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    await rig.send(task)
    await rig.answer(task, Outcome.OK)
    undo = rig.undo_of(task, output={"attempt": 1}).model_copy(update={"action": "repair"})
    await rig.send(undo)
    [r] = await rig.answer(undo, Outcome.OK)
    assert r.output == {"repaired": task.effect_key}


# ---- signs of life


async def test_a_short_attempt_says_one_thing_and_a_long_one_two(rig: Rig, stage: Stage) -> None:
    short, long = await rig.task(stage), await rig.task(stage, lease_s=0.6)
    go = _held(stage, long)
    await rig.send(short, long)
    [started] = await rig.answer(long, Outcome.STARTED)
    await wait_until(
        lambda: sum(h.effect_key == long.effect_key for h in rig.heartbeats) >= 3, description="three heartbeats"
    )
    go.set()
    [ok] = await rig.answer(long, Outcome.OK)
    assert started.started_at == ok.started_at
    assert [r.outcome for r in await rig.answer(short)] == [Outcome.OK]
    beats = [h for h in rig.heartbeats if h.effect_key == long.effect_key]
    assert {(h.attempt, h.worker) for h in beats} == {(1, ok.worker)}
    assert not [h for h in rig.heartbeats if h.effect_key == short.effect_key]


async def test_progress_is_shown(rig: Rig, stage: Stage) -> None:
    async def play(ctx: Context) -> Any:
        ctx.progress(40, "half way")
        await asyncio.Event().wait()

    task = await rig.task(stage)
    stage.plays[task.trace_id] = play
    await rig.send(task)

    def seen() -> list[Any]:
        return [p for p in rig.progress if p.trace_id == task.trace_id]

    [p] = await wait_until(seen, description="the progress", timeout_s=30)
    assert (p.node_id, p.attempt, p.percent, p.message) == ("n", 1, 40, "half way")
    await rig.send(_cancel(task))
    await rig.answer(task, Outcome.IN_DOUBT)


# ---- poison


async def test_what_cannot_be_read_is_set_aside_and_the_next_task_runs(rig: Rig, stage: Stage) -> None:
    task = await rig.task(stage)
    good = rig.record(task)
    bad = (b"\xff\xfe", b"{}", b"[" * 200_000, good.value)
    headers = (good.headers, good.headers, good.headers, ())
    poison = [Outgoing(good.topic, good.key, v, h) for v, h in zip(bad, headers, strict=True)]
    poison.append(Outgoing(good.topic, good.key, None, good.headers))
    odd = {"attempt": 0, "start_before": "tomorrow", "effect_key": "k\0", "lease_s": 0}
    poison += [rig.record(task.model_copy(update={k: v})) for k, v in odd.items()]
    poison.append(rig.record(task.model_copy(update={"effect_key": "k" * 5_000})))
    await rig.send_raw(*poison, good)
    await rig.answer(task, Outcome.OK)
    name = topics.task_topic(stage.agent.name).encode()

    def copies() -> bool:
        return sum((r.key or b"").startswith(name) for r in rig.copies) >= len(poison)

    await wait_until(copies, description="all copies", timeout_s=30)

    async def rows() -> bool:
        asked = (
            "SELECT count(DISTINCT (partition, \"offset\")) FROM handrail.quarantine WHERE topic = $1 AND reason <> ''"
        )
        return await rig.pool.fetchval(asked, name.decode()) == len(poison)

    await wait_until(rows, description="a row of each, for GET /quarantine", timeout_s=30)
    assert stage.count(task.trace_id) == 1


# ---- slots, acknowledgement, drain (services of their own)


async def test_no_more_attempts_run_than_there_are_slots(rig: Rig) -> None:
    stage, running, most = Stage(), [0], [0]
    go = asyncio.Event()

    async def play(_: Context) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await go.wait()
        running[0] -= 1

    tasks = [await rig.task(stage) for _ in range(12)]
    for task in tasks:
        stage.plays[task.trace_id] = play
    service = await rig.serve([stage.agent], slots=3)
    await rig.send(*tasks)
    await wait_until(lambda: running[0] == 3, description="three running", timeout_s=30)
    go.set()
    for task in tasks:
        await rig.answer(task, Outcome.OK)
    assert most == [3]
    await rig.stop(service)


async def test_an_agents_own_bound_holds_and_holds_up_nobody_else(rig: Rig) -> None:
    narrow, wide = Stage(max_in_flight=1), Stage()
    held = [await rig.task(narrow) for _ in range(3)]
    gates = [_held(narrow, task) for task in held]
    service = await rig.serve([narrow.agent, wide.agent])
    await rig.send(*held)
    await wait_until(lambda: len(narrow.runs) == 1, description="one running", timeout_s=30)
    others = [await rig.task(wide) for _ in range(5)]
    await rig.send(*others)
    for task in others:
        await rig.answer(task, Outcome.OK)
    assert len(narrow.runs) == 1
    for gate in gates:
        gate.set()
    for task in held:
        await rig.answer(task, Outcome.OK)
    await rig.stop(service)


async def test_a_stop_lets_attempts_finish_and_leaves_the_rest_to_others(rig: Rig) -> None:
    stage = Stage()
    tasks = [await rig.task(stage) for _ in range(6)]
    gates = [_held(stage, task) for task in tasks]
    first = await rig.serve([stage.agent], group=f"drain-{stage.agent.name}", slots=2)
    await rig.send(*tasks)
    await wait_until(lambda: len(stage.runs) == 2, description="both slots taken", timeout_s=30)
    running = {trace for trace, _, _ in stage.runs}
    slots = first._worker.slots
    await wait_until(lambda: slots._waiting > 0, description="others wait")  # pyright: ignore[reportPrivateUsage]
    stopping = asyncio.create_task(rig.stop(first))
    await wait_until(lambda: slots._waiting == 0, description="they are left to others")  # pyright: ignore[reportPrivateUsage]
    for gate in gates:
        gate.set()
    await stopping
    assert {trace for trace, _, _ in stage.runs} == running
    for task in tasks:
        if task.trace_id in running:
            assert [r.outcome for r in await rig.answer(task, Outcome.OK)] == [Outcome.OK]
    second = await rig.serve([stage.agent], group=f"drain-{stage.agent.name}")
    for task in tasks:
        await rig.answer(task, Outcome.OK)
    assert Counter(trace for trace, _, _ in stage.runs) == Counter(task.trace_id for task in tasks)
    await rig.stop(second)


async def test_a_stop_does_not_wait_for_ever(rig: Rig) -> None:
    stage = Stage()
    task = await rig.task(stage)
    _held(stage, task)
    service = await rig.serve([stage.agent], drain_s=0.2)
    await rig.send(task)
    await rig.answer(task, Outcome.STARTED)
    await rig.stop(service)
    [r] = await rig.answer(task, Outcome.IN_DOUBT)
    assert r.error is not None and r.error.code == "worker-stopped"


async def test_what_a_process_can_do_stands_in_the_registry(rig: Rig, stage: Stage) -> None:
    rows = await rig.pool.fetch(
        "SELECT action, version, manifest, last_seen > handrail.clock() - interval '1 minute' AS fresh"
        " FROM handrail.agent WHERE name = $1 ORDER BY action",
        stage.agent.name,
    )
    assert [(r["action"], r["version"], r["fresh"]) for r in rows] == [("act", "1", True), ("repair", "1", True)]
    assert rows[0]["manifest"]["compensatable"] is True
    assert await rig.bus.partitions(topics.task_topic(stage.agent.name)) == rig.partitions


def _cancel(task: Task) -> Task:
    return task.model_copy(update={"kind": TaskKind.CANCEL, "inputs": {}})


async def _claimed_elsewhere(rig: Rig, task: Task) -> None:
    await rig.pool.execute(
        "INSERT INTO agents.effect (effect_key, attempt, state, worker, claimed_at)"
        " VALUES ($1, $2, 'INTENT', 'another', '2026-01-02T03:04:05Z')",
        task.effect_key,
        task.attempt,
    )
