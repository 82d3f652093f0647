"""Whether a log is still the one that an owner's offsets mean, as it is looked at while a partition is held."""

from __future__ import annotations

from typing import Any, cast

from handrail_contracts.topics import OWNER_INPUTS, RESULTS
from handrail_orchestrator.application.ownership import Held, Ownership
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Outgoing


async def _bus(name: str, records: int) -> MemoryBus:
    bus = MemoryBus()
    await bus.ensure_topics({t: (1, {}) for t in OWNER_INPUTS})
    await _grow(bus, name, records)
    return bus


async def _grow(bus: MemoryBus, name: str, records: int) -> None:
    made = [Outgoing(RESULTS, b"k", b"v", (("ce_id", f"{name}-{i}".encode()),), 0) for i in range(records)]
    await (await bus.producer()).send(made)


async def _owner(bus: MemoryBus, offset: int, ce_id: str) -> Ownership:
    own = Ownership(cast(Any, None), bus, cast(Any, None), 5.0)
    own.held[0] = Held(0, 7, await bus.bus_id(), {RESULTS: (offset, ce_id)}, 1, 1, verified=True)
    return own


async def test_a_log_that_goes_on_is_the_same_also_when_it_keeps_less_than_a_look_ago() -> None:
    bus = await _bus("a", 5)
    own = await _owner(bus, 5, "a-4")
    seen: dict[int, Held] = {}
    assert await own.exchanged(seen) == {} and seen[0].offsets == {RESULTS: (5, "a-4")}
    await _grow(bus, "b", 20)
    own.held[0].offsets[RESULTS] = (25, "b-19")
    bus.delete_records((RESULTS, 0), 15)
    assert await own.exchanged(seen) == {}
    assert seen[0].offsets == {RESULTS: (25, "b-19")}


async def test_another_record_before_the_offset_is_another_log_also_once_it_was_read_from() -> None:
    bus = await _bus("a", 5)
    own = await _owner(bus, 5, "z-4")
    seen = {0: Held(0, 7, await bus.bus_id(), {RESULTS: (4, "z-3")}, 1, 1, verified=True)}
    own.held[0].offsets[RESULTS] = (5, "a-4")  # what is known now fits the new log
    assert await own.exchanged(seen) == {0: 7}
    assert await own.exchanged(seen) == {0: 7}, "and is told until it is adopted"
    own.disown([0])
    assert await own.exchanged(seen) == {}, "nothing is said of what is to be verified anyhow"


async def test_a_log_that_ends_before_the_offset_and_a_bus_of_another_name_are_others() -> None:
    bus = await _bus("a", 5)
    assert await (await _owner(bus, 9, "a-8")).exchanged({}) == {0: 7}
    own = await _owner(bus, 5, "a-4")
    own.held[0].bus_id = "another"
    assert await own.exchanged({}) == {0: 7}
