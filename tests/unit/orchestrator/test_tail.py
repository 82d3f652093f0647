"""The newest event of a partition against the journal: what is refused, and all that must not be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from handrail_contracts.ids import event_ce_id, partition, workflow_key
from handrail_contracts.model import iso
from handrail_contracts.topics import EVENTS, OWNER_INPUTS
from handrail_orchestrator.application.ownership import Held, Ownership
from handrail_orchestrator.application.ports import Journaled
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.tail import KEPT_MS, Tail
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.errors import Misconfigured
from handrail_runtime.ports import Outgoing, Record, TopicPartition

P = 2
NOW = 1_800_000_000_000
TYPE = "NODE_STATE_CHANGED"


def of(p: int, nth: int = 0) -> str:
    """A workflow of that partition."""
    return [t for i in range(100) if partition("default", t := f"w{i}", P) == p][nth]


def event(trace_id: str, seq: int, *, age_ms: int = 1_000, tenant: str = "default", **more: Any) -> Outgoing:
    at = iso(NOW - age_ms)
    data = {"event_type": TYPE, "trace_id": trace_id, "seq": seq, "at": at, **more}
    publisher = Publisher(cast(Any, None), tenant, P, cast(Any, None))
    p = partition("default", trace_id, P)
    return publisher.event(p, 1, trace_id, seq, TYPE, json.dumps(data).encode(), at).message


class World:
    """A bus, a journal that has workflows up to a seq, and an owner that takes both partitions."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.journal: dict[str, int] = {}
        self.queries: list[list[tuple[str, int]]] = []
        self.peeks = 0
        self.own = Ownership(
            cast(Any, None), self.bus, Tail(cast(Any, self), cast(Any, self), "default", P, lambda: NOW), 5.0
        )

    async def peek(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        self.peeks += 1
        return await self.bus.peek(positions)

    async def journaled(self, events: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Journaled]:
        self.queries.append(list(events))
        return {
            (t, seq): Journaled(last, *((TYPE, iso(NOW - 1_000)) if seq <= last else (None, None)))
            for t, seq in events
            if (last := self.journal.get(t))
        }

    async def begin(self, bus_id: str | None = None, **offsets: int) -> None:
        await self.bus.ensure_topics({t: (P, {}) for t in (*OWNER_INPUTS, EVENTS)})
        known = bus_id or await self.bus.bus_id()
        since = {EVENTS: (offsets["since"], None)} if offsets else {}
        self.own.held = {p: Held(p, 1, known, dict(since), 1, 1) for p in range(P)}

    async def put(self, *records: Outgoing) -> None:
        assert set(await (await self.bus.producer()).send(records)) <= {None}

    async def verify(self) -> list[Held]:
        return await self.own.verify()


@pytest.fixture
async def world() -> World:
    made = World()
    await made.begin()
    return made


async def test_an_event_that_the_journal_has_lost_is_refused_with_all_that_a_person_needs(world: World) -> None:
    lost = of(1)
    world.journal = {of(0): 7, lost: 15}
    await world.put(event(of(0), 7), *(event(lost, seq) for seq in range(1, 22)))
    with pytest.raises(Misconfigured) as refused:
        await world.verify()
    said = str(refused.value)
    assert "\n" not in said
    for part in (
        "partition 1",
        f"event 21 of workflow '{lost}'",
        "ends at 15",
        "Bring back",
        "delete the topic handrail.events",
    ):
        assert part in said
    assert not any(h.verified for h in world.own.held.values()), "nothing is read from either"
    assert (world.peeks, world.queries) == (1, [[(of(0), 7), (lost, 21)]]), "one peek and one query for all"


async def test_a_workflow_that_is_lost_as_a_whole_is_refused_and_every_such_partition_named(world: World) -> None:
    await world.put(event(of(0), 3), event(of(1), 2))
    with pytest.raises(Misconfigured, match=r"does not know this workflow\. Partitions 1 are like it"):
        await world.verify()


async def test_another_event_under_the_same_seq_is_refused(world: World) -> None:
    world.journal = {of(0): 3}
    await world.put(event(of(0), 3, age_ms=2_000))
    with pytest.raises(Misconfigured, match=f"the journal has {TYPE} of {iso(NOW - 1_000)} there"):
        await world.verify()


async def test_what_stands_in_the_journal_is_taken_also_when_a_repeat_comes_last(world: World) -> None:
    world.journal = {of(0): 9}
    await world.put(event(of(0), 8), event(of(0), 9), event(of(0), 2))
    assert await world.verify() == []
    assert all(h.verified for h in world.own.held.values())


async def test_an_empty_log_asks_the_journal_nothing(world: World) -> None:
    assert await world.verify() == []
    assert (world.peeks, world.queries) == (0, [])


async def test_what_is_older_than_the_journal_must_keep_says_nothing(world: World) -> None:
    await world.put(event(of(0), 3, age_ms=KEPT_MS))
    assert await world.verify() == []
    await world.put(event(of(1), 3, age_ms=KEPT_MS - 1))
    for h in world.own.held.values():
        h.verified = False
    with pytest.raises(Misconfigured):
        await world.verify()


def strangers(trace_id: str) -> list[Outgoing]:
    """Records that no owner of this tenant published."""
    real = event(trace_id, 99)
    value = json.loads(real.value or b"")
    _, p = real.topic, real.partition

    def forged(**more: Any) -> Outgoing:
        return real._replace(value=json.dumps(value | more).encode())

    return [
        event(trace_id, 99, tenant="other"),
        Outgoing(EVENTS, b"k", b"\xff no event", (), p),
        Outgoing(EVENTS, b"k", None, (), p),
        real._replace(value=b"[]"),
        real._replace(headers=()),
        real._replace(key=b"default/another"),
        forged(seq=98),
        forged(seq="99"),
        forged(seq=2**31),
        forged(at="yesterday"),
        forged(at="2027-01-15T08:00:00\n+00:00"),
        forged(event_type="A\nB"),
        forged(trace_id=None),
    ]


@pytest.mark.parametrize("n", range(13))
async def test_what_is_not_ours_is_passed_over_to_what_is(world: World, n: int) -> None:
    ours, stranger = of(0), strangers(of(0))[n]
    world.journal = {ours: 4}
    await world.put(event(ours, 4), stranger, stranger)
    assert await world.verify() == []
    assert world.queries == [[(ours, 4)]]
    world.journal, world.own.held[0].verified = {ours: 3}, False
    with pytest.raises(Misconfigured):
        await world.verify()


async def test_a_workflow_of_another_partition_is_a_strangers_record(world: World) -> None:
    await world.put(event(of(1), 4)._replace(partition=0))
    with capture_logs() as logs:
        assert await world.verify() == []
    assert [(e["event"], e["partitions"]) for e in logs] == [("newest_event_not_judged", [0])]


async def test_where_nothing_can_be_judged_it_goes_on_and_says_so(world: World) -> None:
    await world.put(event(of(0), 4), *[event(of(0), 1, tenant="other")] * 400)
    with capture_logs() as logs:
        assert await world.verify() == []
    assert [(e["event"], e["partitions"]) for e in logs] == [("newest_event_not_judged", [0])]
    assert world.peeks <= 8


async def test_a_broker_that_shows_nothing_at_first_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put(event(of(0), 4))
    real, hidden = world.bus.peek, [True, True]

    async def peek(positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        return {} if hidden and hidden.pop() else await real(positions)

    monkeypatch.setattr(world.bus, "peek", peek)
    with pytest.raises(Misconfigured):
        await world.verify()


async def test_another_bus_is_adopted_and_what_lies_on_it_is_not_held_against_us(world: World) -> None:
    await world.put(event(of(0), 4), event(of(0), 5))
    await world.begin(bus_id="another")
    assert [h.p for h in await world.verify()] == [0, 1]
    saved = world.own.position(0, 0, 1, {})
    assert saved.offsets == {EVENTS: (2, None)}, "where our own begin goes into the row with the first commit"
    world.own.committed([saved])
    assert world.own.position(0, 0, 1, {}).offsets == {}, "and once"


async def test_what_was_there_before_the_log_became_ours_is_not_judged_and_what_came_after_is(world: World) -> None:
    await world.put(event(of(0), 4), event(of(0), 5))
    await world.begin(since=2)
    assert await world.verify() == []
    await world.put(event(of(0), 1))
    await world.begin(since=2)
    with pytest.raises(Misconfigured):
        await world.verify()


async def test_a_log_made_anew_since_then_is_ours_from_its_start(world: World) -> None:
    await world.put(event(of(0), 4))
    await world.begin(since=50)
    with pytest.raises(Misconfigured):
        await world.verify()


async def test_inputs_made_anew_on_the_bus_that_we_know_do_not_hide_a_lost_tail(world: World) -> None:
    await world.put(event(of(0), 4))
    world.own.held[0].offsets[OWNER_INPUTS[0]] = (9, None)
    with pytest.raises(Misconfigured):
        await world.verify()
    world.journal = {of(0): 4}
    assert [h.p for h in await world.verify()] == [0]


def test_ids_of_events_are_those_that_the_publisher_writes() -> None:
    made = event(of(0), 4)
    assert made.key == workflow_key("default", of(0)).encode()
    assert dict(made.headers)["ce_id"] == event_ce_id("default", of(0), 4).encode()
