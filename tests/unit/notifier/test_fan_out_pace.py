"""While nobody watches, the fan-out takes its events in handfuls; while somebody does, it takes each as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.waiting import wait_until

from handrail_contracts import topics
from handrail_notifier.application import gathering
from handrail_notifier.application.recent import Recent
from handrail_notifier.entrypoints import consumer
from handrail_notifier.entrypoints.consumer import FanOut
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import BusError, Outgoing, Reader, Record, TopicPartition


@dataclass
class Lookers:
    """What the fan-out asks: how many workflows are watched, whether the inbox is, whether a list or a label is."""

    workflows: int = 0
    active: bool = False
    wants_accepted: bool = False

    def __len__(self) -> int:
        return self.workflows

    def find(self, record_key: bytes | None) -> None:
        """None of the records belongs to a watched workflow."""

    def offer(self, record: Record) -> None:
        """What the inbox makes of it is not asked here."""


class Counted(Recent):
    """Counts what the projection of this process was handed."""

    taken = 0

    def offer(self, records: Iterable[Record]) -> None:
        self.taken += len(list(records))


class Slow:
    """A reader that brings one record a read, as a broker's answers come one after the other; and breaks when told to."""

    def __init__(self, inner: Reader) -> None:
        self._inner, self.broken = inner, False

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        self._inner.assign(positions)

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        if self.broken:
            raise BusError("Expected records, but the bus is away.")
        await asyncio.sleep(0.002)
        return await self._inner.read(1, timeout_s)

    async def close(self) -> None:
        await self._inner.close()


@dataclass
class Running:
    bus: MemoryBus
    reader: Slow
    recent: Counted
    fan_out: FanOut

    async def send(self, count: int = 1) -> None:
        messages = [Outgoing(topics.EVENTS, b"k", b"x") for _ in range(count)]
        assert not any(await (await self.bus.producer()).send(messages))

    async def takes(self, count: int) -> None:
        """Waits until so many were taken in all."""
        await wait_until(lambda: self.recent.taken == count, description=f"{count} taken")


@asynccontextmanager
async def running(lookers: Lookers) -> AsyncGenerator[Running]:
    bus = MemoryBus()
    slow = Slow(await bus.reader())

    async def reader() -> Reader:
        return slow

    of_bus: Any = bus
    of_bus.reader = reader
    await bus.ensure_topics({topics.EVENTS: (2, {}), topics.PROGRESS: (2, {})})
    recent = Counted()
    asked: Any = lookers
    fan_out = FanOut(bus, asked, asked, asked, recent)
    await fan_out.open()
    task = asyncio.create_task(fan_out.run(asyncio.Event()))
    try:
        yield Running(bus, slow, recent, fan_out)
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distance that no test lives to see the end of."""
    monkeypatch.setattr(gathering, "EVERY_S", 3600.0)


@pytest.mark.usefixtures("never")
async def test_while_nobody_watches_what_follows_a_read_waits_for_the_next() -> None:
    async with running(Lookers()) as it:
        await it.send()
        await it.takes(1)
        await it.send()
        for _ in range(200):
            await asyncio.sleep(0)
        assert it.recent.taken == 1


async def test_it_waits_for_the_distance_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "EVERY_S", 0.01)
    async with running(Lookers()) as it:
        for n in range(1, 6):
            await it.send()
            await it.takes(n)


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda of: setattr(of, "workflows", 1), id="a workflow"),
        pytest.param(lambda of: setattr(of, "active", True), id="the inbox"),
        pytest.param(lambda of: setattr(of, "wants_accepted", True), id="a list or a label"),
    ],
)
async def test_while_somebody_watches_nothing_waits(look: Callable[[Lookers], None]) -> None:
    lookers = Lookers()
    look(lookers)
    async with running(lookers) as it:
        for n in range(1, 4):
            await it.send()
            await it.takes(n)


@pytest.mark.usefixtures("never")
async def test_a_full_read_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "FAN_OUT_MOST", 1)
    async with running(Lookers()) as it:
        await it.send(5)
        await it.takes(5)


@pytest.mark.usefixtures("never")
async def test_what_comes_after_silence_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "READ_S", 0.005)
    async with running(Lookers()) as it:
        await asyncio.sleep(0.05)  # some reads that bring nothing
        await it.send()
        await it.takes(1)


@pytest.mark.usefixtures("never")
async def test_who_begins_to_watch_is_told_of_nothing_that_was_published_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "WELCOME_S", 3600.0)
    monkeypatch.setattr(gathering, "ABOUT_TO_S", 3600.0)
    async with running(Lookers()) as it:
        await it.send()
        await it.takes(1)
        await it.send(2)
        await asyncio.gather(it.fan_out.attend(), it.fan_out.attend())
        assert it.recent.taken == 3
        for n in (4, 5):  # and nothing rests while their stream is being opened
            await it.send()
            await it.takes(n)


@pytest.mark.usefixtures("never")
async def test_who_comes_where_nothing_gathers_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WELCOME_S", 3600.0)
    monkeypatch.setattr(consumer, "READ_S", 3600.0)
    async with running(Lookers()) as it:
        await asyncio.sleep(0.02)  # it is reading now, and nothing comes
        await it.fan_out.attend()
        await it.send()
        await it.takes(1)


@pytest.mark.usefixtures("never")
async def test_a_silent_bus_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WELCOME_S", 3600.0)
    async with running(Lookers()) as it:
        await it.send()
        await it.takes(1)
        monkeypatch.setattr(consumer, "READ_S", 3600.0)
        await it.fan_out.attend()  # nothing came, and after two short reads that is known
        assert it.recent.taken == 1


@pytest.mark.usefixtures("never")
async def test_a_broken_bus_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WELCOME_S", 3600.0)
    lookers = Lookers()
    async with running(lookers) as it:
        await it.send()
        await it.takes(1)
        it.reader.broken = True
        await it.fan_out.attend()


@pytest.mark.usefixtures("never")
async def test_a_bus_that_does_not_answer_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WELCOME_S", 0.05)
    monkeypatch.setattr(gathering, "SETTLE_S", 3600.0)
    async with running(Lookers()) as it:
        await it.send()
        await it.takes(1)
        await it.fan_out.attend()
        await it.send()
        await it.takes(2)
