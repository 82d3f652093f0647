"""A ring that is behind the journal: what a client is told whose position is ahead of it, and who is served from it.

Mutants killed: judged by the ring alone; one reading of the journal per client; a reading that began before the client came
taken for the last word; idle rings kept after trouble on the bus; a ring that was being loaded then left where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.journals import Story, wire
from tests.waiting import wait_until

from handrail_notifier.application.ports import Head, Key, Row, Snapshot, Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.domain.position import AHEAD, GoOn, Over
from handrail_notifier.entrypoints.frames import SseFrames

KEY = ("t", "one")


class Books:
    """The journal of one workflow. While `open` is not set heads come late, while `pages` is not set pages do; each shows
    what stood there when it was asked."""

    def __init__(self) -> None:
        self.story = Story("one")
        self.asked = self.paged = 0
        self.away = False
        self.open, self.pages = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.pages.set()

    def write(self, events: int) -> None:
        for _ in range(events):
            self.story.add("X")

    async def heads(self, keys: Sequence[Key]) -> dict[Key, Head]:
        self.asked += 1
        if self.away:
            raise Unavailable("Expected the journal, but it is away.")
        head = len(self.story.events)
        await self.open.wait()
        return {key: Head(head, 1) for key in keys if key == KEY}

    async def page(self, key: Key, born: int, after: int, limit: int) -> list[Row]:
        self.paged += 1
        events = self.story.events[after : after + limit]
        await self.pages.wait()
        return [Row(event["seq"], event["event_type"], wire(event)) for event in events]


class NoStore:
    async def snapshots(self, keys: Sequence[Key]) -> list[Snapshot]:
        raise Unavailable("Expected Redis, but there is none.")


@asynccontextmanager
async def running(books: Books) -> AsyncGenerator[Rings]:
    store: Any = NoStore()
    rings = Rings(books, store, SseFrames(), changed=lambda watched: None, start_timeout_s=0.5)
    task = asyncio.create_task(rings.run())
    try:
        yield rings
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def books() -> Books:
    books = Books()
    books.write(15)
    return books


async def test_a_position_that_the_journal_has_reached_goes_on_although_the_bus_has_not(books: Books) -> None:
    async with running(books) as rings:
        watched = await rings.hold(KEY)
        books.write(5)
        assert await rings.opening(watched, "20") == GoOn(20)
        assert watched.head == 20
        assert await rings.opening(watched, "21") == AHEAD


async def test_at_the_end_that_only_the_journal_has_there_is_nothing_left(books: Books) -> None:
    async with running(books) as rings:
        watched = await rings.hold(KEY)
        books.story.ended()
        assert await rings.opening(watched, "16") == Over()


async def test_clients_that_come_together_share_what_is_read_for_them(books: Books) -> None:
    async with running(books) as rings:
        watched = await rings.hold(KEY)
        books.write(5)
        before = books.asked
        answers = await asyncio.gather(*(rings.opening(watched, p) for p in ["20"] * 50 + ["21"] * 50))
        assert answers == [GoOn(20)] * 50 + [AHEAD] * 50
        assert books.asked - before <= 2


async def test_a_reading_that_was_under_way_is_not_the_last_word(books: Books) -> None:
    async with running(books) as rings:
        watched = await rings.hold(KEY)
        books.write(1)
        books.open.clear()
        first = asyncio.create_task(rings.opening(watched, "16"))
        await wait_until(lambda: books.asked == 2, description="the journal is being asked")
        books.write(4)
        second = asyncio.create_task(rings.opening(watched, "20"))
        await asyncio.sleep(0.01)
        books.open.set()
        assert (await first, await second) == (GoOn(16), GoOn(20))


async def test_while_the_journal_is_away_nobody_is_told_that_he_is_ahead(books: Books) -> None:
    async with running(books) as rings:
        watched = await rings.hold(KEY)
        books.away = True
        with pytest.raises(Unavailable):
            await rings.opening(watched, "20")
        assert await rings.opening(watched, "15") == GoOn(15)
        books.away = False
        books.write(5)
        assert await rings.opening(watched, "20") == GoOn(20)


async def test_after_trouble_on_the_bus_nobody_is_served_from_a_ring_that_was_left_alone(books: Books) -> None:
    async with running(books) as rings:
        rings.release(await rings.hold(KEY))
        books.write(5)
        await rings.recheck(at_once=True)
        assert (await rings.hold(KEY)).head == 20


async def test_a_ring_that_was_being_loaded_while_the_bus_was_lost_is_brought_up_as_well(books: Books) -> None:
    async with running(books) as rings:
        books.pages.clear()
        holding = asyncio.create_task(rings.hold(KEY))
        await wait_until(lambda: books.paged == 1, description="the journal is being read")
        books.write(5)  # and what the bus said of it nobody read
        await rings.recheck(at_once=True)
        books.pages.set()
        watched = await holding
        await wait_until(lambda: watched.head == 20, description="the ring has what the bus said meanwhile")
