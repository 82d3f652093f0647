"""`GET /events`: several workflows on one connection, by name or by label, on both routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Event, Story, canonical, random_journal
from tests.notifier_rig import PARTITIONS, Rig, Wire, running, topics_for
from tests.waiting import wait_until

from handrail_contracts.view import WorkflowView
from handrail_notifier.adapters.redis_view import read_state
from handrail_notifier.application import gathering
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import BusError, Record
from handrail_store import connect, migrate


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-bundle")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["direct", "asgi"])
async def rig(request: pytest.FixtureRequest, pool: Any, redis_url: str) -> AsyncGenerator[Rig]:
    bus = MemoryBus()
    await topics_for(bus)
    tenant = f"bundle-{request.param}"
    async with running(pool=pool, bus=bus, redis_url=redis_url, route=request.param, tenant=tenant) as rig:
        yield rig


def story(trace_id: str, **labels: str) -> Story:
    story = Story(trace_id)
    story.accepted(labels=labels)
    story.planned({"a": []})
    return story


async def labelled(rig: Rig, story: Story) -> None:
    await rig.source.both(story.events)
    await rig.source.pool.execute(
        "UPDATE handrail.workflow SET labels = $3 WHERE tenant = $1 AND trace_id = $2",
        rig.source.tenant,
        story.trace_id,
        story.events[0]["labels"],
    )


def folds(client: Wire) -> dict[str, WorkflowView]:
    """What a dashboard makes of the stream; every event must be the next of its workflow."""
    views: dict[str, WorkflowView] = {}
    for frame in client.events:
        assert frame.id is None
        if frame.event == "snapshot":
            views[frame.json["trace_id"]] = WorkflowView.from_state(frame.json)
        elif frame.event not in ("reset", "end"):
            trace_id = frame.json["trace_id"]
            assert views.setdefault(trace_id, WorkflowView(trace_id)).apply(frame.json)
    return views


def state_of(events: list[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


async def test_named_workflows_begin_with_snapshots_go_on_live_and_end_together(rig: Rig) -> None:
    one, two = story("one"), story("two")
    await rig.source.both(one.events)
    await rig.source.both(two.events)
    client = await rig.open("/events?trace_id=one&trace_id=two&trace_id=one")
    await wait_until(lambda: len(client.named("snapshot")) == 2, description="two snapshots")
    for told in (one, two):
        told.node("a", "PENDING", "SCHEDULED")
        told.node("a", "SCHEDULED", "COMPLETE")
        told.ended()
        await rig.source.both(told.events[2:])
    await wait_until(lambda: client.closed, description="the stream ends when all have ended")
    assert not client.cut
    assert client.events[-1].event == "end"
    views = folds(client)
    assert {name: canonical(view.state()) for name, view in views.items()} == {
        "one": state_of(one.events),
        "two": state_of(two.events),
    }


async def test_a_label_brings_running_workflows_and_those_accepted_later(rig: Rig) -> None:
    before, ended, other = story("before", team="it"), story("ended", team="it"), story("other", team="hr")
    for told in (before, ended, other):
        await labelled(rig, told)
    await rig.source.pool.execute("UPDATE handrail.workflow SET ended_at = now() WHERE trace_id = 'ended'")
    client = await rig.open("/events?label=team:it")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    later, foreign = story("later", team="it"), story("foreign", team="hr")
    for told in (foreign, later):
        await rig.source.both(told.events)
    await wait_until(lambda: "later" in folds(client), description="the new workflow")
    later.ended()
    before.node("a", "PENDING", "SCHEDULED")
    await rig.source.both(later.events[2:])
    await rig.source.both(before.events[2:])
    await wait_until(lambda: folds(client)["before"].cursor == 3, description="news of the old one")
    await wait_until(lambda: folds(client)["later"].ended, description="the end of the new one")
    assert set(folds(client)) == {"before", "later"}
    assert not client.closed
    assert len(rig.notifier.bundles._following) == 1  # pyright: ignore[reportPrivateUsage]  what has ended made room
    await client.close()
    await wait_until(lambda: not rig.notifier.bundles.wants_accepted, description="nobody follows labels any more")


async def test_who_listens_is_told_of_every_workflow_that_is_accepted_gathered(rig: Rig) -> None:
    shown = story("shown")
    await rig.source.both(shown.events)
    client, alone = await rig.open("/events?trace_id=shown&started=true"), await rig.open("/events?started=true")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    names = [f"new-{i}" for i in range(30)]
    for name in names:
        await rig.source.both(story(name).events)

    def told(of: Wire) -> list[dict[str, Any]]:
        return [frame.json for frame in of.named("started")]

    for each in (client, alone):
        await wait_until(lambda of=each: sum(t["count"] for t in told(of)) == 30, description="all were told")
        assert told(each)[-1]["trace_ids"][-1] == "new-29"
        assert all(len(t["trace_ids"]) == min(20, t["count"]) for t in told(each))
        assert len(told(each)) < 30
        assert {f.json["trace_id"] for f in each.events if "trace_id" in f.json} <= {"shown"}
    shown.ended()
    await rig.source.both(shown.events[2:])
    await wait_until(lambda: "COMPLETED" in str(client.events[-1].json), description="the end of what is shown")
    assert not client.closed
    refused = await rig.open("/events?started=perhaps")
    assert refused.status == 400
    for each in (client, alone):
        await each.close()
    await wait_until(lambda: not rig.notifier.bundles.wants_accepted, description="nobody listens any more")


async def test_what_was_accepted_while_the_bus_was_interrupted_joins_a_label(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, meanwhile, after = (story(name, team="cut off") for name in ("cut-1", "cut-2", "cut-3"))
    await labelled(rig, before)
    client = await rig.open("/events?label=team:cut%20off")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    opened = asyncio.Event()

    async def broken(*_: Any) -> list[Record]:
        raise BusError("Expected records, but the broker is away.")

    async def late_open() -> None:
        # Published before the reader begins at the end again: the bus does not tell of it any more.
        await labelled(rig, meanwhile)
        await reopen()
        opened.set()

    fan_out = rig.notifier._fan_out  # pyright: ignore[reportPrivateUsage]  nothing else breaks one reader only
    reopen = fan_out.open
    monkeypatch.setattr(fan_out, "open", late_open)
    monkeypatch.setattr(fan_out._reader, "read", broken)  # pyright: ignore[reportPrivateUsage]
    await opened.wait()
    await wait_until(lambda: client.named("reset"), description="the client is told to begin again")
    await labelled(rig, after)
    await wait_until(lambda: "cut-3" in folds(client), description="one that is accepted after")
    meanwhile.node("a", "PENDING", "SCHEDULED")
    await rig.source.both(meanwhile.events[2:])
    await wait_until(lambda: folds(client)["cut-2"].cursor == 3, description="news of the one in between")
    assert set(folds(client)) == {"cut-1", "cut-2", "cut-3"}
    assert len(client.named("reset")) == 1
    await client.close()


async def test_a_label_with_colons_is_followed_as_it_reads(rig: Rig) -> None:
    before, other = story("colon-a", **{"k8s:app": "web:1"}), story("colon-b", k8s="app")
    for told in (before, other):
        await labelled(rig, told)
    client = await rig.open("/events?label=k8s:app:web:1")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    later, neighbour = story("colon-c", k8s="app:web:1"), story("colon-d", **{"k8s:app:web": "2"})
    for told in (neighbour, later):
        await rig.source.both(told.events)
    await wait_until(lambda: "colon-c" in folds(client), description="the new workflow")
    assert set(folds(client)) == {"colon-a", "colon-c"}
    await client.close()


async def test_a_label_that_nobody_carries_yet_opens_and_waits(rig: Rig) -> None:
    client = await rig.open("/events?label=team:none%20yet")
    assert client.status == 200
    told = story("first", team="none yet")
    await rig.source.both(told.events)
    await wait_until(lambda: "first" in folds(client), description="the first one")


async def test_interleaved_workflows_with_gaps_stay_whole(rig: Rig) -> None:
    journals = [random_journal(seed, trace_id=f"mixed-{seed}", max_events=40) for seed in (30, 65, 66)]
    for events in journals:
        await rig.source.both(events[:3])
    client = await rig.open("/events?" + "&".join(f"trace_id={events[0]['trace_id']}" for events in journals))
    await wait_until(lambda: len(client.named("snapshot")) == 3, description="three snapshots")
    for events in journals:
        await rig.source.write(events[3:])
        await rig.source.publish([*events[10:15], *events[3:12], events[-1]])

    def whole() -> bool:
        views = folds(client)
        return all(views[events[0]["trace_id"]].cursor == len(events) for events in journals)

    await wait_until(whole, description="all of them")
    for events in journals:
        assert canonical(folds(client)[events[0]["trace_id"]].state()) == state_of(events)


async def test_a_burst_from_the_journal_arrives_whole_or_as_a_snapshot(rig: Rig) -> None:
    told = Story("burst")
    told.accepted()
    await rig.source.both(told.events)
    client = await rig.open("/events?trace_id=burst")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    while len(told.events) < 2600:
        told.add("RESULT_IGNORED", node_id="a", attempt=1, reason="late")
    await rig.source.write(told.events[1:])
    await rig.source.publish(told.events[-1:])
    await wait_until(lambda: folds(client)["burst"].cursor == 2600, description="it is at the head")


async def test_queries_that_ask_for_nothing_or_too_much_are_refused(rig: Rig) -> None:
    cases = {
        "/events": (400, "invalid-query"),
        "/events?label=": (400, "invalid-query"),
        "/events?label=team": (400, "invalid-query"),
        "/events?label=a:b&label=c:d": (400, "invalid-query"),
        "/events?label=a:%00": (400, "invalid-query"),
        "/events?label=%00:b": (400, "invalid-query"),
        "/events?" + "&".join(f"trace_id=t{i}" for i in range(101)): (400, "invalid-query"),
        "/events?trace_id=nobody": (404, "workflow-not-found"),
        "/events?trace_id=no%20id": (404, "workflow-not-found"),
    }
    for path, (status, code) in cases.items():
        client = await rig.open(path)
        await wait_until(lambda client=client: client.closed, description="the answer")
        assert (client.status, json.loads(client.body)["type"]) == (status, f"/problems/{code}")
    assert rig.notifier.rings.find(f"{rig.source.tenant}/nobody".encode()) is None


@pytest.mark.parametrize("opened", ["/events?started=true", "/inbox/events"])
async def test_who_comes_while_events_gather_is_told_of_nothing_that_was_over_before(
    opened: str, pool: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches, so the fan-out lets events gather: it reads them before the stream begins, not into it."""
    monkeypatch.setattr(gathering, "EVERY_S", 3600.0)
    bus = MemoryBus()
    await topics_for(bus)
    async with running(pool=pool, bus=bus, redis_url=redis_url, tenant=f"gathers{len(opened)}") as rig:
        await rig.source.both(story("gathers-1").events)

        async def projected() -> bool:
            return await read_state(rig.redis, rig.source.tenant, "gathers-1") is not None

        await wait_until(projected, description="the fan-out has read, and lets events gather")
        over = story("gathers-2")
        over.paused("p2", "a")
        over.resolved("p2")
        await rig.source.publish(over.events)
        client = await rig.open(opened)
        later = story("gathers-3")
        later.paused("p3", "a")
        await rig.source.both(later.events)
        await wait_until(lambda: "gathers-3" in client.body.decode(), description="what comes now is told")
        assert "gathers-2" not in client.body.decode()
