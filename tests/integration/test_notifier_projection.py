"""The projection: Redis equals the fold of the journal, whatever is lost, repeated, or written by two at once."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.journals import Event, Story, canonical, random_journal
from tests.notifier_rig import PARTITIONS, Source, running, topics_for
from tests.waiting import wait_until

from handrail.engines.valkey import LocalValkey
from handrail_contracts import live
from handrail_contracts.view import WorkflowView
from handrail_notifier import bootstrap
from handrail_notifier.adapters.journal import PostgresJournal
from handrail_notifier.adapters.redis_view import RedisView, read_state
from handrail_notifier.application.ports import WRITTEN_TOGETHER, Row, Unavailable, Write, Written
from handrail_notifier.application.projection import Projection
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Record
from handrail_store import connect, migrate

TENANT = "projection"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_server: str, postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-projection")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalValkey]:
    """One that only this file uses, so that it may be emptied and killed."""
    server = await LocalValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def redis(valkey: LocalValkey) -> AsyncGenerator[Redis]:
    client = bootstrap.connect_redis(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def source(pool: Any) -> Source:
    bus = MemoryBus()
    await topics_for(bus)
    return Source(pool, bus, await bus.producer(), TENANT)


def projection(pool: Any, redis: Redis) -> Projection:
    journal = PostgresJournal(pool, TENANT)
    return Projection(journal, RedisView(redis), journal, "bus-1")


def records(source: Source, events: Sequence[Event], offset: int = 0) -> list[Record]:
    found: list[Record] = []
    for i, event in enumerate(events):
        out = source.record(event["trace_id"], json.dumps(event).encode(), event["event_type"], event["seq"])
        assert out.partition is not None
        found.append(Record(out.topic, out.partition, offset + i, out.key, out.value, out.headers, 0))
    return found


async def shown(redis: Redis, trace_id: str) -> str | None:
    state = await read_state(redis, TENANT, trace_id)
    return None if state is None else canonical(json.loads(state))


def folded(events: Sequence[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


async def stream_of(redis: Redis, trace_id: str) -> list[Any]:
    entries = await redis.xrange(live.stream_key(TENANT, trace_id))
    return [(entry_id.decode(), json.loads(fields[b"d"]), fields[b"t"].decode()) for entry_id, fields in entries]


@pytest.mark.parametrize("seed", range(25))
async def test_redis_equals_the_fold_whatever_the_batches_and_repetitions(
    pool: Any, redis: Redis, source: Source, seed: int
) -> None:
    rng = random.Random(seed)
    trace_id = f"any-{seed}"
    events = random_journal(seed, trace_id=trace_id)
    two = [projection(pool, redis), projection(pool, redis)]
    at = 0
    while at < len(events):
        begin, end = max(0, at - rng.randint(0, 9)), min(len(events), at + rng.randint(0, 9))
        if end > at:
            await source.write(events[at:end])
        await rng.choice(two).apply(records(source, events[begin:end]))
        at = max(at, end)
        if at:
            assert await shown(redis, trace_id) == folded(events[:at])
    assert await stream_of(redis, trace_id) == [(f"{e['seq']}-0", e, e["event_type"]) for e in events]


async def test_many_workflows_in_one_batch_do_not_mix(pool: Any, redis: Redis, source: Source) -> None:
    journals = [random_journal(seed, trace_id=f"many-{seed}", max_events=20) for seed in range(20)]
    mixed = [events[i] for i in range(20) for events in journals if i < len(events)]
    await projection(pool, redis).apply(records(source, mixed))
    for events in journals:
        assert await shown(redis, events[0]["trace_id"]) == folded(events)


async def test_a_gap_writes_nothing_but_what_the_journal_has(pool: Any, redis: Redis, source: Source) -> None:
    events = random_journal(3, trace_id="gap", max_events=40)
    await source.write(events[:30])
    p = projection(pool, redis)
    await p.apply(records(source, events[:5]))
    await p.apply(records(source, events[20:25]))
    assert await shown(redis, "gap") == folded(events[:30])
    assert [entry[1] for entry in await stream_of(redis, "gap")] == events[:30]
    await p.apply(records(source, events[25:31]))
    assert await shown(redis, "gap") == folded(events[:31])


async def test_an_event_that_is_in_no_journal_changes_nothing(pool: Any, redis: Redis, source: Source) -> None:
    events = random_journal(4, trace_id="forged-p", max_events=20)
    await source.write(events[:4])
    p = projection(pool, redis)
    await p.apply(records(source, events[:4]))
    await p.apply(records(source, [events[9]]))
    await p.apply(records(source, [{"event_type": "NODE_STATE_CHANGED", "trace_id": "forged-p", "seq": 5, "at": ""}]))
    assert await shown(redis, "forged-p") == folded(events[:4])


async def test_the_script_alone_refuses_duplicates_and_gaps(redis: Redis, source: Source) -> None:
    store, key = RedisView(redis), (TENANT, "script")
    view = live.LiveView(WorkflowView("script"))
    story = Story("script")
    for _ in range(4):
        story.add("X")
    writes: list[Write] = []
    for event in story.events:
        delta = view.apply(event)
        assert delta is not None
        writes.append(Write(key, [source_row(event)], delta))
    order = [writes[1], writes[0], writes[0], writes[2], writes[1], writes[3]]
    answers = await store.write(order)
    assert answers == [None, 0, 1, None, 0, None]
    assert [entry[0] for entry in await stream_of(redis, "script")] == ["1-0", "2-0"]


@pytest.mark.parametrize("seed", [3, 11, 42])
async def test_however_events_are_cut_into_batches_redis_holds_the_same(redis: Redis, seed: int) -> None:
    store, rng = RedisView(redis), random.Random(seed)
    hashes: list[dict[bytes, bytes]] = []
    for name, most in (("one-by-one", 1), ("by-chance", 7), ("at-once", 1000)):
        events = random_journal(seed, max_events=250, trace_id=name)
        view, key = live.LiveView(WorkflowView(name)), (TENANT, name)
        writes: list[Write] = []
        while view.view.cursor < len(events):
            part = events[view.view.cursor :][: rng.randint(1, most)][:WRITTEN_TOGETHER]
            assert all(view.fold(event) for event in part)
            writes.append(Write(key, [source_row(event) for event in part], view.changes()))
        at = 0
        while at < len(writes):
            again, ahead = rng.randint(0, min(3, at)), rng.randint(1, most)
            answers = await store.write(writes[at - again : at + ahead])
            assert answers[:again] == [len(write.rows) for write in writes[at - again : at]]
            assert set(answers[again:]) == {0}
            at += len(answers) - again
        fields = await redis.hgetall(live.view_key(*key))
        hashes.append({k: v.replace(name.encode(), b"") for k, v in fields.items()})
        entries = await stream_of(redis, name)
        assert [int(entry[0].partition("-")[0]) for entry in entries] == [row.seq for w in writes for row in w.rows]
    assert hashes[0] == hashes[1] == hashes[2]


async def test_a_rebuild_never_lowers_what_is_there(redis: Redis) -> None:
    store, key = RedisView(redis), (TENANT, "rebuild")
    events = random_journal(31, trace_id="rebuild", max_events=30)
    new, old = (live.LiveView(WorkflowView("rebuild").apply_all(events[:n])).whole() for n in (20, 10))
    rows = [source_row(event) for event in events]
    assert await store.rebuild(key, new, rows[:20]) is Written.DONE
    assert await store.rebuild(key, old, rows[:10]) is Written.DUPLICATE
    assert await store.rebuild(key, new, rows[:20]) is Written.DUPLICATE
    assert await shown(redis, "rebuild") == folded(events[:20])


async def test_the_stream_is_bounded_and_expires_a_day_after_the_end(pool: Any, redis: Redis, source: Source) -> None:
    story = Story("bounded")
    story.accepted()
    story.planned({"a": []})
    while len(story.events) < 1400:
        story.node("a", "SCHEDULED", "IN_PROGRESS")
    await source.write(story.events)
    p = projection(pool, redis)
    await p.apply(records(source, story.events))
    length = await redis.xlen(live.stream_key(TENANT, "bounded"))
    assert 1000 <= length < 1200
    assert await redis.ttl(live.view_key(TENANT, "bounded")) == -1
    story.ended()
    await p.apply(records(source, story.events[-1:]))
    for key in (live.view_key(TENANT, "bounded"), live.stream_key(TENANT, "bounded")):
        assert 86_000 < await redis.ttl(key) <= 86_400


async def test_a_large_plan_is_rebuilt_in_one_go(pool: Any, redis: Redis, source: Source) -> None:
    story = Story("wide")
    story.accepted()
    story.planned({f"n{i}": [] for i in range(200)})
    for begin in range(200, 5000, 200):
        summary = {"agent": "a", "action": "b", "depends_on": [], "state": "PENDING", "attempt": 0, "max_attempts": 1}
        story.add("NODES_ADDED", nodes=[{"id": f"n{i}", **summary} for i in range(begin, begin + 200)], by=None)
    await source.write(story.events)
    await projection(pool, redis).apply(records(source, story.events[-1:]))
    assert await shown(redis, "wide") == folded(story.events)
    story.node("n4999", "PENDING", "SCHEDULED")
    await projection(pool, redis).apply(records(source, story.events[-1:]))
    assert await shown(redis, "wide") == folded(story.events)


@pytest.mark.parametrize("lost", ["view", "stream", "both", "scripts"])
async def test_what_redis_lost_comes_back_with_the_next_event(
    pool: Any, redis: Redis, source: Source, lost: str
) -> None:
    trace_id = f"lost-{lost}"
    events = random_journal(11, trace_id=trace_id, max_events=30)
    await source.write(events)
    p = projection(pool, redis)
    await p.apply(records(source, events[:10]))
    if lost in ("view", "both"):
        await redis.delete(live.view_key(TENANT, trace_id))
    if lost in ("stream", "both"):
        await redis.delete(live.stream_key(TENANT, trace_id))
    if lost == "scripts":
        await redis.script_flush()
    await p.apply(records(source, events[10:12]))
    state = await shown(redis, trace_id)
    assert state == (folded(events) if lost in ("view", "both") else folded(events[:12]))


async def test_a_first_event_read_again_after_only_the_view_was_lost_begins_afresh(
    pool: Any, redis: Redis, source: Source
) -> None:
    events = random_journal(12, trace_id="halfway", max_events=20)
    await source.write(events)
    await projection(pool, redis).apply(records(source, events))
    await redis.delete(live.view_key(TENANT, "halfway"))
    await projection(pool, redis).apply(records(source, events))
    assert await shown(redis, "halfway") == folded(events)
    assert [entry[1] for entry in await stream_of(redis, "halfway")] == events


async def test_what_somebody_else_put_into_the_stream_is_replaced(pool: Any, redis: Redis, source: Source) -> None:
    events = random_journal(13, trace_id="odd", max_events=20)
    await source.write(events)
    p = projection(pool, redis)
    await p.apply(records(source, events[:5]))
    await redis.xadd(live.stream_key(TENANT, "odd"), {"x": "y"}, id="999-0")
    await p.apply(records(source, events[5:6]))
    assert await shown(redis, "odd") == folded(events)
    assert [entry[1] for entry in await stream_of(redis, "odd")] == events


async def test_records_that_nobody_can_read_are_quarantined_once_and_stop_nothing(
    pool: Any, redis: Redis, source: Source
) -> None:
    story = Story("good")
    story.accepted()
    good = records(source, story.events, offset=100)
    place = {"topic": good[0].topic, "partition": 0, "headers": good[0].headers, "timestamp_ms": 0}
    bad = [
        Record(offset=i, key=key, value=value, **place)
        for i, (key, value) in enumerate(
            [
                (b"projection/x", b"\xff\xfe"),
                (b"projection/x", b"[1]"),
                (b"projection/x", None),
                (None, b"{}"),
                (b"projection/x", b'{"event_type":"X","trace_id":"y","seq":1,"at":""}'),
                (b"projection/x", b'{"event_type":"X","trace_id":"x","seq":true,"at":""}'),
                (b"projection/x", b'{"event_type":"X","trace_id":"x","seq":NaN,"at":""}'),
                (b"projection/x", b"[" * 100_000),
            ]
        )
    ]
    p = projection(pool, redis)
    await p.apply([*bad, *good])
    await p.apply([*bad, *good])
    assert await shown(redis, "good") == folded(story.events)
    kept = await pool.fetch(
        "SELECT \"offset\", value, reason FROM handrail.quarantine WHERE bus_id = 'bus-1' ORDER BY 1"
    )
    assert [(row["offset"], row["value"]) for row in kept] == [(i, record.value) for i, record in enumerate(bad)]
    assert all(row["reason"].startswith("Expected") for row in kept)


async def test_a_batch_whose_answer_was_lost_is_simply_given_again(
    pool: Any, redis: Redis, source: Source, valkey: LocalValkey
) -> None:
    events = random_journal(14, trace_id="again", max_events=30)
    await source.write(events)
    p = projection(pool, redis)
    await p.apply(records(source, events[:10]))
    await valkey.kill()
    with pytest.raises(Unavailable):
        await p.apply(records(source, events[10:20]))
    await valkey.restart()
    await p.apply(records(source, events[10:20]))
    assert await shown(redis, "again") == folded(events)


async def test_a_full_redis_is_waited_for_and_loses_nothing(pool: Any, redis: Redis, source: Source) -> None:
    events = random_journal(15, trace_id="full", max_events=30)
    await source.write(events)
    p = projection(pool, redis)
    await p.apply(records(source, events[:10]))
    await redis.config_set("maxmemory-policy", "noeviction")  # another Redis than ours may be set so
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            await p.apply(records(source, events[10:20]))
    finally:
        await redis.config_set("maxmemory", "0")
    assert await shown(redis, "full") == folded(events[:10])
    await p.apply(records(source, events[10:20]))
    assert await shown(redis, "full") == folded(events[:20])


async def test_the_service_projects_what_is_published_also_what_came_before_it(
    pool: Any, redis: Redis, valkey: LocalValkey
) -> None:
    bus = MemoryBus()
    await topics_for(bus)
    source = Source(pool, bus, await bus.producer(), TENANT)
    early, late = (random_journal(seed, trace_id=f"service-{seed}", max_events=30) for seed in (20, 21))
    await source.both(early)
    async with running(pool=pool, bus=bus, redis_url=valkey.url, tenant=TENANT):
        await source.both(late)
        for events in (early, late):
            await projected(redis, events)


async def test_a_redis_that_is_away_for_a_while_catches_up_in_order(
    pool: Any, redis: Redis, valkey: LocalValkey
) -> None:
    bus = MemoryBus()
    await topics_for(bus)
    source = Source(pool, bus, await bus.producer(), TENANT)
    events = random_journal(22, trace_id="away", max_events=60)
    async with running(pool=pool, bus=bus, redis_url=valkey.url, tenant=TENANT) as rig:
        await source.both(events[:10])
        await projected(redis, events[:10])
        client = await rig.events("away")
        await valkey.kill()
        await source.both(events[10:20])
        await wait_until(lambda: client.ids[-1:] == [20], description="the stream goes on without Redis")
        fresh = await rig.events("away", 5)
        await wait_until(lambda: fresh.ids == list(range(6, 21)), description="a new stream starts without Redis")
        await valkey.restart()
        await source.both(events[20:21])
        await projected(redis, events[:21])


@pytest.mark.parametrize("how", ["flushall", "restart"])
async def test_an_emptied_redis_shows_watched_workflows_again_by_itself(
    pool: Any, redis: Redis, valkey: LocalValkey, how: str
) -> None:
    bus = MemoryBus()
    await topics_for(bus)
    source = Source(pool, bus, await bus.producer(), TENANT)
    watched, other = (random_journal(30 + n, trace_id=f"{how}-{n}", max_events=30) for n in (0, 1))
    async with running(pool=pool, bus=bus, redis_url=valkey.url, tenant=TENANT) as rig:
        for events in (watched, other):
            await source.both(events[:-1])
            await projected(redis, events[:-1])
        await wait_until(lambda: redis.get(live.EPOCH_KEY), description="the epoch is marked")
        client = await rig.events(f"{how}-0")
        await wait_until(lambda: client.ids, description="the client is served")
        seen = await looks(redis)

        async def looked_again() -> bool:
            return await looks(redis) > seen + 1

        await wait_until(looked_again, description="the notifier has seen the mark")
        await (redis.flushall() if how == "flushall" else valkey.restart())
        await projected(redis, watched[:-1])
        assert await shown(redis, f"{how}-1") is None
        await source.both(other[-1:])
        await projected(redis, other)


async def projected(redis: Redis, events: Sequence[Event]) -> None:
    async def equal() -> bool:
        return await shown(redis, events[0]["trace_id"]) == folded(events)

    await wait_until(equal, description=f"Redis shows event {len(events)} of {events[0]['trace_id']}")


async def looks(redis: Redis) -> int:
    """How often anybody asked for a plain key: only the mark of the content is one."""
    stats: Any = await redis.info("commandstats")
    return stats.get("cmdstat_get", {}).get("calls", 0)


def source_row(event: Event) -> Row:
    return Row(event["seq"], event["event_type"], json.dumps(event).encode())


async def test_a_full_redis_forgets_what_nobody_looked_at_and_goes_on(pool: Any, source: Source, tmp_path: Any) -> None:
    server = await LocalValkey.start(tmp_path, settings={"maxmemory": "6mb"})
    redis = bootstrap.connect_redis(server.url)
    try:
        stories = [Story(f"full-{i}") for i in range(240)]
        for story in stories:
            story.accepted(input={"note": "x" * 6_000})
            for _ in range(6):
                story.add("RESULT_IGNORED", node_id="a", attempt=1, reason="late", note="y" * 6_000)
            await source.write(story.events[:6])
            await projection(pool, redis).apply(records(source, story.events[:6]))
        memory: Any = await redis.info("memory")
        assert memory["maxmemory_policy"] == "allkeys-lru"
        assert memory["used_memory"] <= 1.2 * 6 * 2**20
        forgotten = [s for s in stories if await shown(redis, s.events[0]["trace_id"]) is None]
        assert forgotten
        assert await shown(redis, "full-239") == folded(stories[-1].events[:6])
        # One that still runs comes back with its next event, whole.
        again = forgotten[0].events
        await source.write(again[6:])
        await projection(pool, redis).apply(records(source, again[6:], offset=6))
        assert await shown(redis, again[0]["trace_id"]) == folded(again)
        assert [entry[1] for entry in await stream_of(redis, again[0]["trace_id"])] == again
    finally:
        await redis.aclose()
        await server.stop()
