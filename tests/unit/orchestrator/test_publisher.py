"""Tasks overtake events; an event follows the tasks of its batch; nothing is lost or reordered when the bus refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Any, cast

import orjson
import pytest

from handrail_contracts.codec import encode
from handrail_contracts.ids import digest
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import Outcome, Task, TaskKind
from handrail_engine.outgoing import Dispatch
from handrail_orchestrator.application.lane import Lane, NotNow, Sending
from handrail_orchestrator.application.publisher import Publisher
from handrail_runtime.ports import BusError, Outgoing, RecordRefused, TopicUnknown
from handrail_runtime.testing import wait_until

EVENTS, TASKS = "handrail.events", "handrail.tasks.bot"


class Gate:
    """A bus whose acknowledgements wait, by topic, and fail as told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.held: set[str] = set()
        self.failures: dict[str, BusError] = {}
        self._moved = asyncio.Condition()

    async def producer(self) -> Gate:
        return self

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        self.sent += [(m.topic, m.value or b"") for m in messages]
        async with self._moved:
            await self._moved.wait_for(lambda: not self.held & {m.topic for m in messages})
        return [self.failures.get(m.topic) for m in messages]

    async def release(self, topic: str) -> None:
        async with self._moved:
            self.held.discard(topic)
            self._moved.notify_all()

    async def close(self) -> None: ...

    def of(self, topic: str) -> list[bytes]:
        return [value for t, value in self.sent if t == topic]


async def no_blobs(trace_id: str, digests: list[str]) -> dict[str, bytes]:
    raise AssertionError(trace_id, digests)


@asynccontextmanager
async def publishing(
    blobs: Callable[[str, list[str]], Awaitable[dict[str, bytes]]] = no_blobs, gate: Any = None
) -> AsyncGenerator[tuple[Publisher, Gate]]:
    gate = gate or Gate()
    publisher = Publisher(gate, "default", 4, blobs)
    publisher.start_at(1, 0)
    publisher.start_at(2, 0)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher, gate
    finally:
        gate.failures.clear()
        for topic in list(gate.held):
            await gate.release(topic)
        await publisher.stop()
        await running


def event(publisher: Publisher, pseq: int, p: int = 1) -> Sending:
    return publisher.event(p, pseq, "t1", pseq, "NODE_STATE_CHANGED", b"e%d" % pseq, "2026-11-26T18:00:00.000Z")


def task(
    publisher: Publisher, node: str, p: int = 1, inputs: dict[str, Any] | None = None, kind: TaskKind = TaskKind.EXECUTE
) -> Sending:
    asked = Dispatch(
        kind=kind,
        tenant="default",
        trace_id="t1",
        node_id=node,
        agent="bot",
        action="act",
        attempt=1,
        max_attempts=1,
        effect_key=f"default/t1/{node}/1",
        effect_class=EffectClass.PURE,
        inputs=inputs or {},
        start_before="2026-11-26T18:01:00.000Z",
        lease_s=5,
    )
    return publisher.message(p, asked, "2026-11-26T18:00:00.000Z")


ODD: Any = {"ä": ["\u2028", "\x00", 1e22, 1e-7, -0.0, 2**63, -(2**63), True, None, {}], "nested": {"a/b~": [[]]}}


def test_a_task_is_written_as_its_message_would_be() -> None:
    assert set(Dispatch._fields) == set(Task.model_fields)
    for name, default in Dispatch._field_defaults.items():
        assert default == Task.model_fields[name].default
    publisher: Any = Publisher(cast(Any, None), "default", 4, cast(Any, None))
    plain = Dispatch(
        TaskKind.EXECUTE, "default", "t1", "ä", "bot", "act", 1, 3, "default/t1/ä/1", EffectClass.PURE, {}, "later"
    )
    others: dict[str, list[Any]] = {
        "kind": list(TaskKind),
        "tenant": ["other"],
        "effect_class": list(EffectClass),
        "inputs": [ODD],
        "output": [ODD, 0, "", False, [], float("nan"), float("-inf")],
        "do_key": ["key", ""],
        "start_to_close_s": [300, 0.1, 1e9],
        "lease_s": [5, 0.5],
        "conversation": [[], [ODD]],
        "approved": [{}, ODD],
        "approval": [{}, ODD],
    }
    for name, values in others.items():
        for value in values:
            d = plain._replace(**{name: value})
            written = publisher.message(0, d, "now").message.value
            assert written == encode(Task(**d._asdict())), (name, value)
    for values in zip_longest(*others.values()):  # and all of them at once
        d = plain._replace(**{k: v for k, v in zip(others, values, strict=True) if v is not None})
        assert publisher.message(0, d, "now").message.value == encode(Task(**d._asdict()))


async def test_an_event_follows_the_tasks_of_its_batch() -> None:
    async with publishing() as (publisher, gate):
        gate.held = {TASKS}
        publisher.put([task(publisher, "a"), event(publisher, 1), event(publisher, 2)])
        await wait_until(lambda: gate.of(TASKS), description="the task is on its way")
        publisher.put([event(publisher, 3)])
        assert gate.of(EVENTS) == []
        assert publisher.published(1) == 0
        await gate.release(TASKS)
        assert await publisher.flush(5.0)
        assert gate.of(EVENTS) == [b"e1", b"e2", b"e3"]
        assert publisher.published(1) == 3


async def test_a_task_never_waits_for_an_event() -> None:
    async with publishing() as (publisher, gate):
        gate.held = {EVENTS}
        publisher.put([task(publisher, "a"), event(publisher, 1)])
        await wait_until(lambda: gate.of(EVENTS), description="the event is on its way")
        publisher.put([task(publisher, "b"), event(publisher, 2)])
        await wait_until(lambda: len(gate.of(TASKS)) == 2, description="the second task is on its way")
        assert gate.of(EVENTS) == [b"e1"]
        assert publisher.published(1) == 0
        assert not await publisher.flush(0.01)
        await gate.release(EVENTS)
        assert await publisher.flush(5.0)
        assert publisher.published(1) == 2


async def test_a_batch_without_tasks_does_not_overtake() -> None:
    async with publishing() as (publisher, gate):
        publisher.put([event(publisher, 1)])
        publisher.put([task(publisher, "a"), event(publisher, 2)])
        publisher.put([event(publisher, 3)])
        assert await publisher.flush(5.0)
        assert gate.of(EVENTS) == [b"e1", b"e2", b"e3"]
        assert publisher.published(1) == 3


async def test_tasks_that_fail_are_sent_again_and_hold_no_event_back() -> None:
    async with publishing() as (publisher, gate):
        gate.failures[TASKS] = BusError("no acknowledgement")
        publisher.put([task(publisher, "a"), event(publisher, 1)])
        await wait_until(lambda: publisher.published(1) == 1, description="the event is acknowledged")
        assert publisher.queued == 1
        gate.failures.clear()
        assert await publisher.flush(5.0)
        assert len(gate.of(TASKS)) >= 2
        assert len(set(gate.of(TASKS))) == 1
        assert gate.of(EVENTS) == [b"e1"]


async def test_events_that_fail_are_sent_again_in_order() -> None:
    async with publishing() as (publisher, gate):
        gate.failures[EVENTS] = BusError("no acknowledgement")
        publisher.put([event(publisher, 1), event(publisher, 2)])
        await wait_until(lambda: len(gate.of(EVENTS)) >= 4, description="both were tried twice")
        assert publisher.published(1) == 0
        gate.failures.clear()
        assert await publisher.flush(5.0)
        assert gate.of(EVENTS)[-2:] == [b"e1", b"e2"]
        assert publisher.published(1) == 2


async def test_a_task_that_the_bus_refuses_is_left_to_its_wake_up() -> None:
    async with publishing() as (publisher, gate):
        gate.failures[TASKS] = TopicUnknown("nobody knows it")
        publisher.put([task(publisher, "a"), event(publisher, 1)])
        assert await publisher.flush(5.0)
        assert len(gate.of(TASKS)) == 1
        assert publisher.published(1) == 1


async def test_what_is_forgotten_while_its_tasks_are_out_is_not_handed_on() -> None:
    async with publishing() as (publisher, gate):
        gate.held = {TASKS}
        publisher.put([task(publisher, "a"), event(publisher, 1), event(publisher, 1, p=2)])
        await wait_until(lambda: gate.of(TASKS), description="the task is on its way")
        publisher.forget([1])
        assert publisher.queued == 1
        await gate.release(TASKS)
        assert await publisher.flush(5.0)
        assert gate.of(EVENTS) == [b"e1"]
        assert (publisher.published(1), publisher.published(2)) == (0, 1)


async def test_a_stop_sends_what_waits() -> None:
    async with publishing() as (publisher, gate):
        publisher.put([task(publisher, "a"), event(publisher, 1)])
        await publisher.stop()
    assert (len(gate.of(TASKS)), gate.of(EVENTS)) == (1, [b"e1"])
    assert publisher.published(1) == 1


def ended(publisher: Publisher, pseq: int) -> Sending:
    return publisher.event(1, pseq, "t1", pseq, "WORKFLOW_COMPLETED", b"e%d" % pseq, "2026-11-26T18:00:00.000Z")


async def test_events_in_a_stream_share_a_send_and_the_end_of_a_workflow_takes_them_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handrail_orchestrator.application.publisher.NEWS_EVERY_S", 3600.0)
    async with publishing() as (publisher, gate):
        publisher.put([event(publisher, 1)])
        await wait_until(lambda: publisher.published(1) == 1, description="the first event goes at once")
        publisher.put([event(publisher, 2)])
        publisher.put([event(publisher, 3)])
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.of(EVENTS) == [b"e1"]
        publisher.put([ended(publisher, 4)])
        await wait_until(lambda: publisher.published(1) == 4, description="the end goes with what came before it")
        assert gate.of(EVENTS) == [b"e1", b"e2", b"e3", b"e4"]


async def test_a_flush_and_a_stop_do_not_wait_for_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handrail_orchestrator.application.publisher.NEWS_EVERY_S", 3600.0)
    async with publishing() as (publisher, gate):
        for pseq in (1, 2):
            publisher.put([event(publisher, pseq)])
            assert await publisher.flush(10.0)
        publisher.put([event(publisher, 3)])
    assert gate.of(EVENTS) == [b"e1", b"e2", b"e3"]


async def test_a_producer_that_is_let_go_while_tasks_are_prepared_is_no_end_of_the_service() -> None:
    """A stop does not wait for what is read from the store for a task's inputs."""
    gate: Any = Gate()
    reading, go = asyncio.Event(), asyncio.Event()

    async def prepare(s: Sending) -> Outgoing:
        reading.set()
        await go.wait()
        return s.message

    lane = Lane(gate, prepare, lambda _: None)
    running = asyncio.create_task(lane.run())
    lane.put([Sending(Outgoing(TASKS, b"k", b"v", []), 1, task=True)])
    await reading.wait()
    lane.stop()
    await lane.close()
    go.set()
    await asyncio.wait_for(running, 5)


STORED = b'{"a":[1,2]}'
MARK = digest(STORED)
OWN = f"/workflows/t1/blobs/{MARK}"
OTHER = digest(b"2")


async def test_a_task_gets_stored_payloads_of_its_own_workflow_and_nothing_else_is_taken_for_one() -> None:
    asked: list[list[str]] = []

    async def blobs(trace_id: str, digests: list[str]) -> dict[str, bytes]:
        asked.append(digests)
        return {MARK: STORED}

    odd = {
        "other": {"$ref": f"/workflows/t2/blobs/{OTHER}"},
        "schema": {"$ref": "#/blobs/x"},
        "n": {"$ref": OWN, "path": 5},
    }
    async with publishing(blobs) as (publisher, gate):
        publisher.put([task(publisher, "a", inputs=odd), task(publisher, "b", inputs={"whole": {"$ref": OWN}, **odd})])
        publisher.put([task(publisher, "c", inputs={"part": {"$ref": OWN, "path": ["a", "1"]}})])
        await wait_until(lambda: len(gate.of(TASKS)) == 3, description="all were sent")
    inputs = [orjson.loads(value)["inputs"] for value in gate.of(TASKS)]
    assert inputs == [odd, {"whole": {"a": [1, 2]}, **odd}, {"part": 2}]
    assert asked == [[OTHER], [MARK, OTHER], [MARK]]


async def test_tasks_wait_while_the_store_cannot_answer_and_none_is_lost() -> None:
    away = [3]

    async def blobs(trace_id: str, digests: list[str]) -> dict[str, bytes]:
        away[0] -= 1
        if away[0] >= 0:
            raise NotNow("the database restarts")
        return {MARK: STORED}

    async with publishing(blobs) as (publisher, gate):
        publisher.put([task(publisher, "a"), task(publisher, "b", inputs={"x": {"$ref": OWN}}), event(publisher, 1)])
        await wait_until(lambda: len(gate.of(TASKS)) == 2, description="all of it was sent")
    assert [orjson.loads(v)["node_id"] for v in gate.of(TASKS)] == ["a", "b"]
    assert away == [-1] and publisher.unsent() == []


async def test_a_payload_that_cannot_be_put_in_fails_its_attempt_and_no_other() -> None:
    async def blobs(trace_id: str, digests: list[str]) -> dict[str, bytes]:
        return {MARK: b"{broken"}

    async with publishing(blobs) as (publisher, gate):
        publisher.put([task(publisher, "a", inputs={"x": {"$ref": OWN}}), task(publisher, "b"), event(publisher, 1)])
        await wait_until(lambda: publisher.published(1) == 1, description="what comes behind it goes on")
    assert [orjson.loads(v)["node_id"] for v in gate.of(TASKS)] == ["b"]
    [told] = publisher.unsent()
    assert (told.node_id, told.attempt, told.outcome) == ("a", 1, Outcome.FAILED)


class Narrow(Gate):
    """A bus that takes no record above a size."""

    most = 5_000

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        outcomes = await super().send(messages)
        large = RecordRefused("Expected less, but it is more.")
        return [large if len(m.value or b"") > self.most else o for m, o in zip(messages, outcomes, strict=True)]


async def test_an_attempt_whose_task_the_bus_refuses_for_good_has_failed() -> None:
    big = {"x": "y" * 6_000}
    async with publishing(gate=Narrow()) as (publisher, _):
        publisher.put([task(publisher, "a", inputs=big), task(publisher, "b"), event(publisher, 1)])
        publisher.put([task(publisher, "c", inputs=big, kind=TaskKind.COMPENSATE)])
        publisher.put([task(publisher, "d", inputs=big, kind=TaskKind.CANCEL), event(publisher, 2)])
        await wait_until(lambda: publisher.published(1) == 2, description="what comes behind them goes on")
        told = publisher.unsent()
    assert [(r.node_id, r.kind, r.effect_key) for r in told] == [
        ("a", TaskKind.EXECUTE, "default/t1/a/1"),
        ("c", TaskKind.COMPENSATE, "default/t1/c/1"),
    ]
    assert all(r.error and (r.error.code, r.error.retryable) == ("task-too-large", False) for r in told)
    assert publisher.unsent() == []


async def test_a_row_that_is_too_large_for_the_bus_goes_out_cut_and_holds_nobody_up() -> None:
    row = {
        "event_type": "WORKFLOW_PAUSED_HITL",
        "trace_id": "t1",
        "seq": 7,
        "pause_id": "p",
        "context_snapshot": {"doc": "w" * 20_000, "n": 1},
        "available_resolutions": [{"action_id": "RES_X", "input_schema": {"description": "d" * 9_000}}],
    }
    async with publishing(gate=Narrow()) as (publisher, gate):
        large = publisher.event(1, 1, "t1", 7, "WORKFLOW_PAUSED_HITL", orjson.dumps(row), "2026-11-26T18:00:00.000Z")
        publisher.put([large, event(publisher, 2), event(publisher, 1, 2)])
        await wait_until(lambda: publisher.published(1) == 2, description="its own partition goes on")
        await wait_until(lambda: publisher.published(2) == 1, description="and the others")
    sent = next(orjson.loads(v) for v in gate.of(EVENTS) if v.startswith(b"{") and len(v) < Narrow.most)
    at = "/workflows/t1/journal?after=6&limit=1"
    assert sent["context_snapshot"] == {"doc": {"$ref": at, "bytes": 20_002, "preview": '"' + "w" * 199}, "n": 1}
    assert sent["available_resolutions"][0]["input_schema"]["description"]["$ref"] == at
    assert (sent["pause_id"], sent["seq"]) == ("p", 7)
