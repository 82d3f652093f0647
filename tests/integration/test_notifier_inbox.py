"""`GET /inbox/events`: open pauses from PostgreSQL, then what changes, on both routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Event, Story
from tests.notifier_rig import PARTITIONS, Rig, Wire, running, topics_for
from tests.waiting import wait_until

from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import BusError
from handrail_store import connect, migrate


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(empty_database, PARTITIONS)
    pool = await connect.pool(empty_database, app="test-inbox")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session", params=["direct", "asgi"])
async def rig(request: pytest.FixtureRequest, pool: Any, redis_url: str) -> AsyncGenerator[Rig]:
    bus = MemoryBus()
    await topics_for(bus)
    async with running(pool=pool, bus=bus, redis_url=redis_url, route=request.param, grace_s=0.0) as rig:
        yield rig


async def opened(rig: Rig, event: Event, state: str = "open") -> None:
    """The row that the orchestrator writes with the event."""
    await rig.source.pool.execute(
        "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, state, opened_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now())",
        event["pause_id"],
        event["trace_id"],
        event["seq"],
        event["kind"],
        event,
        state,
    )


async def inbox(rig: Rig) -> tuple[Wire, list[str]]:
    client = await rig.open("/inbox/events")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    return client, shown(client)


def shown(client: Wire) -> list[str]:
    return [pause["pause_id"] for pause in client.named("snapshot")[-1].json["items"]]


async def test_it_begins_with_the_open_pauses_newest_first_and_goes_on_live(rig: Rig) -> None:
    one, two, old = Story("one"), Story("two"), Story("old")
    await opened(rig, one.paused("p1", "a"))
    await opened(rig, old.paused("p0", "a"), "decided")
    await opened(rig, two.paused("p2", "a"))
    client, items = await inbox(rig)
    assert items == ["p2", "p1"]
    assert client.named("snapshot")[0].json["items"][1] == one.events[0]
    news = [
        one.add("PAUSE_UPDATED", pause_id="p1", claimed_by="ada", claimed_until="2999-01-01T00:00:00.000Z"),
        one.add("MESSAGE_ADDED", pause_id="p1", role="operator", text="hello"),
        one.resolved("p1"),
        two.ended(),
    ]
    three = Story("three")
    await rig.source.publish(
        [one.events[0], *news, three.accepted(), three.paused("p3", "a"), three.node("a", "X", "Y")]
    )
    await wait_until(lambda: client.named("WORKFLOW_PAUSED_HITL"), description="the new pause")
    assert [frame.json for frame in client.events[1:]] == [*news, three.events[1]]
    assert all(frame.id is None for frame in client.frames)
    _, items = await inbox(rig)
    assert items == ["p3"]


async def test_a_claim_shows_in_the_snapshot_while_it_holds(rig: Rig) -> None:
    story = Story("claims")
    for pause_id, until in (("p1", "now() + interval '1 hour'"), ("p2", "now() - interval '1 hour'")):
        await opened(rig, story.paused(pause_id, "a"))
        await rig.source.pool.execute(
            f"UPDATE handrail.pause SET claimed_by = 'ada', claimed_until = {until} WHERE pause_id = $1", pause_id
        )
    client, _ = await inbox(rig)
    claims = {pause["pause_id"]: pause["claimed_by"] for pause in client.named("snapshot")[0].json["items"]}
    assert claims == {"p1": "ada", "p2": None}


async def test_repeated_and_unreadable_records_are_not_shown(rig: Rig) -> None:
    client, _ = await inbox(rig)
    story = Story("again")
    story.paused("p1", "a")
    bad = [rig.source.record("again", value, "HITL_RESOLVED") for value in (b"{", b'{"event_type":"HITL_RESOLVED"}')]
    await rig.source.send(bad)
    await rig.source.publish(story.events * 3)
    story.resolved("p1")
    await rig.source.publish([*story.events[1:], *story.events])
    await wait_until(lambda: client.named("HITL_RESOLVED"), description="the resolution")
    other = Story("other")
    await rig.source.publish([other.paused("p2", "a")])
    await wait_until(lambda: len(client.named("WORKFLOW_PAUSED_HITL")) == 2, description="the other pause")
    assert len(client.events) == 4


async def test_after_trouble_on_the_bus_everybody_begins_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client, items = await inbox(rig)
    assert items == []
    story = Story("missed")
    await opened(rig, story.paused("p1", "a"))
    fan_out: Any = rig.notifier._fan_out  # pyright: ignore[reportPrivateUsage]  the only way to break it
    reader = fan_out._reader

    async def broken(*_: object) -> None:
        raise BusError("Expected the bus, but it is gone.")

    monkeypatch.setattr(reader, "read", broken)
    await rig.source.publish([Story("nobody").accepted()])
    await wait_until(
        lambda: len(client.named("snapshot")) > 1 and shown(client) == ["p1"], description="a new snapshot"
    )
    names = [frame.event for frame in client.events]
    assert set(names[1:]) == {"reset", "snapshot"}
    assert client.named("reset")[0].json["state"] == "/inbox?state=open"
    await wait_until(lambda: fan_out._reader not in (None, reader), description="a new reader")
    await rig.source.publish([story.resolved("p1")])
    await wait_until(lambda: client.named("HITL_RESOLVED"), description="the stream is live again")


async def test_many_pauses_are_cut_to_the_newest_and_it_says_so(rig: Rig) -> None:
    story = Story("many")
    await rig.source.pool.executemany(
        "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at)"
        " VALUES ($1, 'many', $2::int, 'failure', $3, now() + make_interval(secs => $2::int))",
        [(f"p{i}", i, story.paused(f"p{i}", "a")) for i in range(1, 602)],
    )
    client, items = await inbox(rig)
    assert client.named("snapshot")[0].json["truncated"] is True
    assert (len(items), items[0], items[-1]) == (500, "p601", "p102")


async def test_methods_and_media_types_are_as_for_every_stream(rig: Rig) -> None:
    assert (await rig.open("/inbox/events", method="POST", headers={"content-length": "0"})).status == 405
    assert (await rig.open("/inbox/events", headers={"accept": "application/json"})).status == 406
    assert (await rig.open("/inbox/events", method="HEAD")).headers["content-type"] == "text/event-stream"
