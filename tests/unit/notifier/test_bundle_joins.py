"""Who joins a stream of a label, and when: with an interrupted bus, an unreadable journal, and no room.

Mutants killed: nothing looked for after an interruption; `reset` while it lasts; a failed join forgotten; one that found no
room forgotten; a workflow shown twice whose `WORKFLOW_ACCEPTED` came twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.journals import Story, wire
from tests.waiting import wait_until

from handrail_notifier.application import bundle as bundle_module
from handrail_notifier.application.bundle import Bundle, Bundles
from handrail_notifier.application.ports import Head, Key, Row, Snapshot, Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.domain.window import Piece
from handrail_notifier.entrypoints.frames import SseFrames

LABEL, CARRIED = "team:it", {"team": "it"}


class Books:
    """A journal of workflows that all carry the label; unreadable while `away`."""

    def __init__(self) -> None:
        self.stories: dict[Key, Story] = {}
        self.away = False

    async def heads(self, keys: Sequence[Key]) -> dict[Key, Head]:
        self._answer()
        return {key: Head(len(self.stories[key].events), 1) for key in keys if key in self.stories}

    async def page(self, key: Key, born: int, after: int, limit: int) -> list[Row]:
        self._answer()
        events = self.stories[key].events[after : after + limit]
        return [Row(event["seq"], event["event_type"], wire(event)) for event in events]

    async def running_with(self, label: str, limit: int) -> list[Key]:
        self._answer()
        running = [key for key, story in self.stories.items() if "COMPLETED" not in story.events[-1]["event_type"]]
        return running[::-1][:limit]

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("Expected the journal, but it is away.")


class NoStore:
    async def snapshots(self, keys: Sequence[Key]) -> list[Snapshot]:
        raise Unavailable("Expected Redis, but there is none.")


class Scene:
    def __init__(self, books: Books, rings: Rings, bundles: Bundles) -> None:
        self.books, self.rings, self.bundles = books, rings, bundles

    def begin(self, trace_id: str, *, ended: bool = False) -> Story:
        """A workflow in the journal, of which the bus has said nothing."""
        story = Story(trace_id)
        story.accepted(labels=CARRIED)
        if ended:
            story.ended()
        self.books.stories["t", trace_id] = story
        return story

    def accept(self, trace_id: str) -> Story:
        """A workflow that the bus tells of."""
        story = self.begin(trace_id)
        self.bundles.accepted(("t", trace_id), CARRIED)
        return story

    def end(self, trace_id: str) -> None:
        """Its last event comes on the bus."""
        event = self.books.stories["t", trace_id].ended()
        watched = next(w for w in self.rings.watched() if w.key == ("t", trace_id))
        assert watched.ring is not None
        watched.offer(Row(event["seq"], event["event_type"], wire(event)), event, 0)
        self.bundles.changed(watched)


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    books, frames = Books(), SseFrames()
    store: Any = NoStore()
    rings = Rings(books, store, frames, changed=lambda watched: bundles.changed(watched), start_timeout_s=0.2)
    bundles = Bundles(rings, books, frames, tenant="t", changed=lambda bundle: None)
    running = asyncio.create_task(rings.run())
    try:
        yield Scene(books, rings, bundles)
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]  pytest calls it
    monkeypatch.setattr(bundle_module, "LOOK_EVERY_S", 0.01)


def members(bundle: Bundle) -> list[str]:
    return sorted(watched.key[1] for watched in bundle.members)


def told(bundle: Bundle, cursor: int = 0) -> bytes:
    """All that a client behind `cursor` gets."""
    body = b""
    while isinstance(piece := bundle.after(cursor), Piece):
        body, cursor = body + piece.body, piece.cursor
    return body


async def followed(bundle: Bundle, *names: str) -> None:
    await wait_until(lambda: members(bundle) == sorted(names), description=f"{names} are followed")


async def test_what_was_accepted_while_the_bus_was_interrupted_joins_and_the_client_begins_again() -> None:
    async with scene() as it:
        it.begin("before")
        bundle = await it.bundles.open([], LABEL)
        cursor = bundle.head
        it.begin("meanwhile")
        it.begin("came and went", ended=True)
        it.bundles.missed(over=True)
        await followed(bundle, "before", "meanwhile")
        await wait_until(lambda: b"event: reset" in told(bundle, cursor), description="the client is told")
        body = told(bundle, cursor)
        assert body.count(b"event: snapshot") == 2
        assert b"came and went" not in body
        it.accept("after")
        await followed(bundle, "before", "meanwhile", "after")
        assert told(bundle, bundle.head) == b""


async def test_while_the_bus_is_away_what_is_accepted_joins_with_its_first_event() -> None:
    async with scene() as it:
        bundle = await it.bundles.open([], LABEL)
        story = it.begin("meanwhile")
        it.bundles.missed(over=False)
        await followed(bundle, "meanwhile")
        assert b"reset" not in told(bundle)
        assert wire(story.events[0]) in told(bundle)


async def test_after_an_interruption_the_journal_is_asked_until_it_answers() -> None:
    async with scene() as it:
        bundle = await it.bundles.open([], LABEL)
        it.begin("meanwhile")
        it.books.away = True
        it.bundles.missed(over=True)
        await asyncio.sleep(0.1)
        assert told(bundle) == b""
        it.books.away = False
        await followed(bundle, "meanwhile")
        await wait_until(lambda: b"event: reset" in told(bundle), description="the client is told")


async def test_one_that_could_not_be_read_when_it_was_accepted_joins_when_it_can() -> None:
    async with scene() as it:
        bundle = await it.bundles.open([], LABEL)
        it.books.away = True
        first, second = it.accept("goes on"), it.accept("is over by then")
        second.ended()
        await wait_until(lambda: len(bundle.put_off) == 2, description="both were put off")
        it.books.away = False
        await followed(bundle, "goes on")
        await wait_until(lambda: wire(second.events[-1]) in told(bundle), description="the other is told to its end")
        for event in (*first.events, *second.events):
            assert told(bundle).count(wire(event)) == 1


async def test_one_that_found_no_room_joins_when_another_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "MEMBERS", 2)
    async with scene() as it:
        it.begin("old")
        bundle = await it.bundles.open([], LABEL)
        it.accept("one")
        await followed(bundle, "old", "one")
        it.accept("two")
        it.accept("three")
        await asyncio.sleep(0.05)
        assert members(bundle) == ["old", "one"]
        it.books.stories["t", "two"].ended()
        it.end("one")
        await followed(bundle, "old", "three")
        it.accept("four")
        it.end("old")
        await followed(bundle, "three", "four")


async def test_more_than_there_was_room_for_at_the_beginning_join_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "MEMBERS", 2)
    async with scene() as it:
        for name in ("a", "b", "c"):
            it.begin(name)
        bundle = await it.bundles.open([], LABEL)
        await followed(bundle, "b", "c")
        it.end("c")
        await followed(bundle, "a", "b")


async def test_one_that_is_accepted_twice_on_the_bus_is_shown_once() -> None:
    async with scene() as it:
        bundle = await it.bundles.open([], LABEL)
        story = it.accept("twice")
        await followed(bundle, "twice")
        it.end("twice")
        it.bundles.accepted(("t", "twice"), CARRIED)
        it.bundles.missed(over=False)
        await asyncio.sleep(0.05)
        assert [told(bundle).count(wire(event)) for event in story.events] == [1, 1]


async def test_nobody_looks_for_a_bundle_that_is_closed() -> None:
    async with scene() as it:
        bundle = await it.bundles.open([], LABEL)
        it.begin("meanwhile")
        it.bundles.missed(over=True)
        it.bundles.close(bundle)
        await asyncio.sleep(0.05)
        assert members(bundle) == []
        assert all(watched.holders == 0 for watched in it.rings.watched())
