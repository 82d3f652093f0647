"""`Client.watch` against a Handrail that cuts, forgets, repeats and resets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.journals import Event, Story, canonical, random_journal
from tests.unit.sdk_client.fake_handrail import (
    Answer,
    FakeHandrail,
    Script,
    bye_after,
    closed_at_once,
    cut_after,
    from_before,
    older,
    only_end,
    refused,
    trimmed,
    well_behaved,
    without,
)
from tests.waiting import wait_until

from handrail_contracts.events import TERMINAL_EVENTS
from handrail_contracts.view import WorkflowView
from handrail_sdk.client import Client
from handrail_sdk.client_errors import Problem, Unexpected, Unreachable
from handrail_sdk.connection import Connection


def ended(seed: int) -> list[Event]:
    """The journal of some workflow that has ended."""
    tale = Story("t")
    tale.events = random_journal(seed)
    if tale.events[-1]["event_type"] not in TERMINAL_EVENTS:
        tale.ended()
    return tale.events


def story() -> list[Event]:
    return ended(9)


@pytest.fixture(autouse=True, scope="module")
def _quick_first_retry() -> Iterator[None]:
    """Until a server has said how long to wait the client waits half a second; here it need not."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("handrail_sdk.connection._FIRST_RETRY_S", 0.002)
        yield


def folded(events: list[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


async def watched(fake: FakeHandrail, **how: Any) -> tuple[list[dict[str, Any]], str]:
    """Every event of a whole watch, and the last view."""
    async with Client(fake.url) as client:
        seen: list[dict[str, Any]] = []
        last = ""
        async for event, view in client.watch(fake.trace_id, **how):
            seen.append(dict(event))
            last = canonical(view.state())
        return seen, last


SCRIPTS: dict[str, Script] = {
    "well behaved": well_behaved,
    "cut at once": cut_after(0),
    "cut after 1": cut_after(1),
    "cut inside of a frame": cut_after(2, half=True),
    "bye": bye_after(3),
    "hole": without(2, 5, 6),
    "repeats": from_before(4),
    "reset": trimmed,
    "dropped": closed_at_once,
    "only an end": only_end,
}
WITH_OLDER: dict[str, Script] = {**SCRIPTS, "older": older(3)}
"""Whoever begins with a snapshot believes an older one: there it comes as often as the server says it."""


@given(names=st.lists(st.sampled_from(sorted(WITH_OLDER)), max_size=6), seed=st.integers(0, 10_000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
async def test_whatever_the_network_does_every_event_comes_once_in_order(names: list[str], seed: int) -> None:
    events = ended(seed)
    async with FakeHandrail(events) as fake:
        fake.scripts.extend(WITH_OLDER[name] for name in names)
        seen, view = await watched(fake, after=0)
    assert seen == events
    assert view == folded(events)


@given(names=st.lists(st.sampled_from(sorted(SCRIPTS)), max_size=6), visible=st.integers(0, 12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
async def test_a_watch_from_a_snapshot_ends_with_the_state_of_the_server(names: list[str], visible: int) -> None:
    events = story()
    async with FakeHandrail(events, visible=visible) as fake, Client(fake.url) as client:
        fake.scripts.extend(SCRIPTS[name] for name in names)
        last, state = visible, ""
        async for event, view in client.watch(fake.trace_id):
            await fake.publish(1)
            assert event["seq"] > last or event["event_type"] == "snapshot"
            last, state = max(last, event["seq"]), canonical(view.state())
        assert state == folded(events)


async def test_a_snapshot_of_before_repeats_nothing_where_every_event_was_asked_for() -> None:
    events = story()
    async with FakeHandrail(events) as fake:
        fake.scripts.extend([cut_after(len(events) - 2), older(3)])
        seen, view = await watched(fake, after=0)
    assert seen == events
    assert view == folded(events)


async def test_the_first_update_is_the_snapshot_and_the_stream_goes_on_from_its_cursor() -> None:
    events = story()
    async with FakeHandrail(events, visible=4) as fake, Client(fake.url) as client:
        seen: list[dict[str, Any]] = []
        async for event, view in client.watch(fake.trace_id):
            if not seen:
                assert (event["event_type"], event["seq"], view.cursor) == ("snapshot", 4, 4)
                await fake.publish()
            seen.append(dict(event))
        assert seen[1:] == events[4:]
        assert fake.positions == ["4"]


async def test_a_watch_of_an_ended_workflow_is_its_snapshot_and_opens_no_stream() -> None:
    async with FakeHandrail(story()) as fake:
        seen, _ = await watched(fake)
        assert [event["event_type"] for event in seen] == ["snapshot"]
        assert fake.positions == []


async def test_a_watch_from_the_middle_begins_after_that_event() -> None:
    events = story()
    async with FakeHandrail(events) as fake:
        seen, view = await watched(fake, after=5)
    assert seen == events[5:]
    assert view == folded(events)


async def test_after_a_cut_the_position_is_the_last_event_that_came() -> None:
    async with FakeHandrail(story()) as fake:
        fake.scripts.extend([cut_after(3), cut_after(2, half=True)])
        await watched(fake, after=0)
        assert fake.positions == ["0", "3", "5"]


async def test_a_long_journal_is_read_in_parts_where_the_stream_skips_it() -> None:
    tale = Story()
    tale.accepted()
    tale.planned({"a": []})
    for attempt in range(1, 1200):
        tale.node("a", "SCHEDULED", "IN_PROGRESS", attempt)
    tale.node("a", "IN_PROGRESS", "COMPLETE", 1200)
    tale.ended()
    async with FakeHandrail(tale.events) as fake:
        fake.scripts.append(trimmed)
        seen, _ = await watched(fake, after=0)
    assert seen == tale.events


async def test_a_server_that_went_back_in_time_is_believed() -> None:
    events = story()
    older = events[:3]
    async with (
        FakeHandrail(events, visible=8) as fake,
        Client(fake.url) as client,
        aclosing(client.watch(fake.trace_id)) as updates,
    ):
        _, view = await anext(updates)
        assert view.cursor == 8
        fake.visible = len(older)
        event, view = await anext(updates)
        assert (event["event_type"], view.cursor) == ("snapshot", 3)
        await fake.publish()
        assert [event["seq"] async for event, _ in updates] == [e["seq"] for e in events[3:]]


async def test_news_of_the_connection_are_told() -> None:
    news: list[Connection] = []
    async with FakeHandrail(story()) as fake:
        fake.scripts.extend([cut_after(1), refused(503, "overloaded", retry_after="0")])
        await watched(fake, after=0, on_connection=news.append)
    assert [n.state for n in news] == ["live", "waiting", "waiting", "live"]
    assert news[1].reason == "the connection broke"
    assert news[2].reason == "Not now."


async def test_progress_comes_when_asked_for_and_has_no_place_in_the_order() -> None:
    events = story()

    async def script(fake: FakeHandrail, wire: Any, after: int) -> None:
        await wire.head()
        await wire.event(events[0])
        await wire.send('event: progress\ndata: {"node_id":"a","percent":40}\n\n')
        await fake.follow(wire, 1)

    async with FakeHandrail(events) as fake:
        fake.scripts.extend([script, script])
        quiet, _ = await watched(fake, after=0)
        seen, _ = await watched(fake, after=0, progress=True)
    assert quiet == events
    assert seen[1] == {"event_type": "progress", "node_id": "a", "percent": 40}
    assert [e for e in seen if "seq" in e] == events


async def test_event_types_from_the_future_are_counted_and_handed_on() -> None:
    tale = Story()
    tale.accepted()
    tale.add("WORKFLOW_DREAMT", of="sheep")
    tale.ended()
    async with FakeHandrail(tale.events) as fake:
        seen, _ = await watched(fake, after=0)
    assert seen == tale.events


async def test_a_workflow_that_is_not_there_is_a_problem_and_not_an_endless_wait() -> None:
    async with FakeHandrail(story()) as fake, Client(fake.url) as client:
        for how in ({}, {"after": 0}):
            with pytest.raises(Problem) as caught:
                async for _ in client.watch("no-such-thing", **how):
                    pass
            assert caught.value.code == "workflow-not-found"


async def test_something_else_at_this_address_is_told_and_not_retried() -> None:
    events = story()

    async def script(fake: FakeHandrail, wire: Any, after: int) -> None:
        await wire.head(200, "text/html")

    async with FakeHandrail(events) as fake, Client(fake.url) as client:
        fake.scripts.append(script)
        with pytest.raises(Unexpected, match="event stream"):
            async for _ in client.watch(fake.trace_id, after=0):
                pass


async def test_leaving_a_watch_closes_its_connection() -> None:
    async with FakeHandrail(story(), visible=4) as fake, Client(fake.url) as client:
        async with aclosing(client.watch(fake.trace_id, after=0)) as updates:
            async for event, _ in updates:
                if event["seq"] == 4:
                    break
        await wait_until(lambda: fake.open == 0, description="the stream's connection to be closed")


async def test_wait_returns_at_the_first_pause_or_at_the_end() -> None:
    tale = Story()
    tale.accepted()
    tale.planned({"a": []})
    tale.paused("p1", "a")
    tale.resolved("p1")
    tale.ended()
    async with FakeHandrail(tale.events, visible=3) as fake, Client(fake.url) as client:
        view = await client.wait(fake.trace_id, until="paused")
        assert (view.status, list(view.pauses)) == ("PAUSED_HITL", ["p1"])
        await fake.publish()
        view = await client.wait(fake.trace_id)
        assert (view.status, view.ended) == ("COMPLETED", True)


async def test_wait_gives_up_after_its_timeout() -> None:
    async with FakeHandrail(story(), visible=2) as fake, Client(fake.url) as client:
        with pytest.raises(TimeoutError):
            await client.wait(fake.trace_id, timeout_s=0.05)


async def test_a_server_that_was_never_there_is_unreachable() -> None:
    async with Client("http://127.0.0.1:9", retries=0) as client:
        with pytest.raises(Unreachable, match="Expected Handrail at"):
            async for _ in client.watch("any"):
                pass


async def test_history_is_every_event_over_all_pages() -> None:
    events = story()
    async with FakeHandrail(events) as fake, Client(fake.url) as client:
        fake.answer("GET", f"/workflows/{fake.trace_id}/journal", *_pages(events, 4))
        assert [event async for event in client.history(fake.trace_id)] == events


def _pages(events: list[Event], size: int) -> list[Answer]:
    parts = [events[i : i + size] for i in range(0, len(events), size)]
    return [
        Answer(body={"items": part, "next_cursor": str(part[-1]["seq"]) if part is not parts[-1] else None})
        for part in parts
    ]


async def test_where_streams_open_with_tickets_each_connection_orders_its_own() -> None:
    events = story()
    async with FakeHandrail(events) as fake, Client(fake.url) as client:
        fake.scripts += [refused(401, "ticket-required"), cut_after(2), refused(401, "ticket-invalid"), well_behaved]
        tickets = [
            Answer(201, {"ticket": f"t{n}", "url": f"{fake.stream_path}?ticket=t{n}", "expires_in_s": 30})
            for n in range(3)
        ]
        fake.answer("POST", "/sse-tickets", *tickets)
        async with aclosing(client.watch("t", after=0)) as updates:
            seen = [event["seq"] async for event, _ in updates]
        assert seen == [event["seq"] for event in events]
        opened = [request.query.get("ticket") for request in fake.requests if request.path == fake.stream_path]
        assert opened == [None, ["t0"], ["t1"], ["t2"]]
        assert [r.body for r in fake.requests if r.path == "/sse-tickets"] == [{"trace_id": "t"}] * 3


async def test_a_refusal_that_no_ticket_cures_is_told() -> None:
    async with FakeHandrail(story()) as fake, Client(fake.url) as client:
        fake.scripts += [refused(401, "ticket-invalid")]
        with pytest.raises(Problem, match="ticket-invalid"):
            async with aclosing(client.watch("t", after=0)) as updates:
                async for _ in updates:
                    pass
