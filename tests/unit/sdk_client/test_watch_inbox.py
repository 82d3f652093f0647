"""`Client.watch_inbox`: the open pauses over all workflows, folded from a stream that comes and goes."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from tests.journals import Event
from tests.unit.sdk_client.fake_handrail import FakeHandrail, Script

from handrail_sdk.client import Client

AT = "2026-11-20T09:00:00.000Z"


def pause(pause_id: str, trace_id: str, seq: int = 5) -> Event:
    return {"event_type": "WORKFLOW_PAUSED_HITL", "trace_id": trace_id, "seq": seq, "at": AT, "pause_id": pause_id}


def sends(*frames: tuple[str, dict[str, Any]], then_closes: bool = False) -> Script:
    async def script(fake: FakeHandrail, wire: Any, after: int) -> None:
        await wire.head()
        for kind, data in frames:
            await wire.send(f"event: {kind}\ndata: {json.dumps(data)}\n\n")
        if not then_closes:
            await fake.follow(wire, 10**6)

    return script


async def seen(*scripts: Script, count: int) -> list[list[str]]:
    """The pauses (id, claim, messages) of the first `count` states."""
    found: list[list[str]] = []
    async with FakeHandrail([]) as fake, Client(fake.url) as client:
        fake.stream_path = "/inbox/events"
        fake.scripts.extend(scripts)
        async with aclosing(client.watch_inbox()) as updates:
            async for _, pauses, _ in updates:
                found.append([
                    f"{p['pause_id']}{p.get('claimed_by') or ''}{len(p.get('transcript') or []) or ''}" for p in pauses
                ])  # fmt: skip
                if len(found) == count:
                    break
        assert fake.positions == [None] * len(fake.positions)
    return found


async def test_what_opens_changes_and_closes_is_folded_newest_first() -> None:
    states = await seen(
        sends(
            ("snapshot", {"items": [pause("p2", "b"), pause("p1", "a")], "truncated": False}),
            ("ping", {"at": AT}),
            ("WORKFLOW_PAUSED_HITL", pause("p3", "c")),
            ("PAUSE_UPDATED", {"trace_id": "a", "seq": 6, "at": AT, "pause_id": "p1", "claimed_by": "ada"}),
            ("MESSAGE_ADDED", {"trace_id": "b", "seq": 6, "at": AT, "pause_id": "p2", "role": "user", "text": "hi"}),
            ("HITL_RESOLVED", {"trace_id": "a", "seq": 7, "at": AT, "pause_id": "p1"}),
            ("PAUSE_UPDATED", {"trace_id": "z", "seq": 7, "at": AT, "pause_id": "unknown"}),
            ("WORKFLOW_CANCELLED", {"trace_id": "b", "seq": 9, "at": AT}),
        ),
        count=6,
    )
    assert states == [
        ["p2", "p1"],
        ["p3", "p2", "p1"],
        ["p3", "p2", "p1ada"],
        ["p3", "p21", "p1ada"],
        ["p3", "p21"],
        ["p3"],
    ]


async def test_a_new_connection_begins_with_a_new_snapshot() -> None:
    first = sends(("snapshot", {"items": [pause("p1", "a")]}), then_closes=True)
    second = sends(("snapshot", {"items": [pause("p9", "z")]}))
    assert await seen(first, second, count=2) == [["p1"], ["p9"]]
