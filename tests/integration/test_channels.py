"""The queue of notices on real PostgreSQL, webhooks to a receiver that fails, and addresses that must not be called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from standardwebhooks import Webhook
from tests.unit.notifier.test_channel_notices import PAUSE, RESOLVED

from handrail_notifier.outbound.courier import Courier
from handrail_notifier.outbound.notices import GiveUp, Kind, Notice, TryLater
from handrail_notifier.outbound.queue import Queue
from handrail_notifier.outbound.webhook import Webhooks
from handrail_simulators.channels import Serving
from handrail_simulators.channels import office as play
from handrail_store import connect, migrate

HOOK = "webhook-1"


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test-channels")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def played() -> AsyncGenerator[Serving]:
    played = Serving()
    await played.start()
    yield played
    await played.stop()


def hooks(played: Serving, **more: Any) -> Webhooks:
    return Webhooks(
        {HOOK: f"{played.url}/webhook"}, [play.WEBHOOK_SECRET], frozenset({f"127.0.0.1:{played.port}"}), **more
    )


async def pause(pool: Any, pause_id: str, trace_id: str = "t", **more: Any) -> None:
    """What the orchestrator writes when a pause opens."""
    data = {**PAUSE, "pause_id": pause_id, "trace_id": trace_id, **more}
    await pool.execute(
        "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at) VALUES ($1, $2, 17, 'failure', $3, now())",
        pause_id,
        trace_id,
        data,
    )


async def workflow(pool: Any, trace_id: str = "t") -> int:
    week = datetime.now(UTC).isocalendar()
    born = week.year * 100 + week.week
    await pool.execute(
        "INSERT INTO handrail.workflow (trace_id, p, born, status, created_at, updated_at)"
        " VALUES ($1, 0, $2, 'PAUSED_HITL', now(), now())",
        trace_id,
        born,
    )
    return born


async def event(pool: Any, born: int, seq: int, data: dict[str, Any], trace_id: str = "t") -> None:
    await pool.execute(
        "INSERT INTO handrail.journal (born, trace_id, seq, p, pseq, type, data, at) VALUES ($1, $2, $3::int, 0, $3::int, $4, $5, now())",
        born,
        trace_id,
        seq,
        data["event_type"],
        {**data, "trace_id": trace_id, "seq": seq},
    )


async def rows(pool: Any) -> list[dict[str, Any]]:
    return [dict(r) for r in await pool.fetch("SELECT * FROM handrail.outbound ORDER BY id")]


async def advance(pool: Any, by: timedelta) -> None:
    await pool.execute("UPDATE handrail.clock SET offset_ms = offset_ms + $1", int(by.total_seconds() * 1000))


async def test_a_pause_is_told_once_on_each_channel_however_often_it_is_fed(pool: Any) -> None:
    queue = Queue(pool, "default")
    await workflow(pool)
    for n in range(20):
        await pause(pool, f"p{n}")
    new = await asyncio.gather(*(queue.feed(["slack", "email"]) for _ in range(8)))
    assert sum(new) == 40
    assert await queue.feed(["slack", "email"]) == 0
    claimed = await asyncio.gather(*(queue.claim(["slack", "email"], 10) for _ in range(6)))
    ids = [n.id for some in claimed for n in some]
    assert len(ids) == len(set(ids)) == 40
    assert await queue.claim(["slack", "email"], 10) == [], "claimed ones are nobody else's"
    assert await queue.feed(["text"]) == 20, "a channel that is opened later hears of what is open"


async def test_marked_arguments_are_in_nothing_that_a_channel_is_given(pool: Any) -> None:
    queue = Queue(pool, "default")
    born = await workflow(pool)
    proposed = {"action": "pay", "args": {"iban": "DE00SECRET"}, "summary": "Pay DE00SECRET", "redact": ["args.iban"]}
    await pause(pool, "p1", kind="gate", proposed_action=proposed)
    await queue.feed(["slack", HOOK, "email"])
    opened = await queue.claim(["slack", HOOK], 10)
    await event(pool, born, 18, {**RESOLVED, "pause_id": "p1", "comment": "DE00SECRET is right"})
    await pool.execute("UPDATE handrail.pause SET state = 'decided', closed_at = now() WHERE pause_id = 'p1'")
    await queue.feed(["slack", HOOK, "email"])
    ended = await queue.claim(["slack", HOOK], 10)
    late = await queue.claim(["email"], 10)
    assert any(n.closed is not None for n in late), "it was over before it was told"
    given = [*opened, *ended, *late, await queue.how_it_ended("slack", "p1")]
    assert (len(opened), len(ended), given[-1] is None) == (2, 2, False)
    assert "SECRET" not in repr(given) and repr(given).count("[redacted]") >= len(given)


async def test_what_follows_a_notice_is_read_off_the_tables(pool: Any) -> None:
    queue = Queue(pool, "default")
    born = await workflow(pool)
    await pause(pool, "p1")
    await pause(pool, "p2", "other")
    await queue.feed(["slack", "email", HOOK])
    await event(pool, born, 18, RESOLVED)
    await pool.execute("UPDATE handrail.pause SET state = 'decided', closed_at = now() WHERE pause_id = 'p1'")
    assert await queue.feed(["slack", "email", HOOK]) == 3
    end = {"event_type": "WORKFLOW_COMPLETED", "status": "COMPLETED_WITH_SKIPS", "at": "2026-11-26T15:05:01.000Z"}
    await event(pool, born, 19, end)
    await pool.execute("UPDATE handrail.workflow SET ended_at = now()")
    assert await queue.feed(["slack", "email", HOOK]) == 2, "the end is told where it was decided, and to webhooks"
    assert await queue.feed(["slack", "email", HOOK]) == 0
    told = {(r["channel"], r["kind"]) for r in await rows(pool) if r["trace_id"] == "t"}
    assert told == {
        *((c, k) for c in ("slack", "email", HOOK) for k in ("opened", "resolved")),
        ("slack", "ended"),
        (HOOK, "ended"),
    }


async def test_a_receiver_that_is_down_for_an_hour_hears_of_it_once(pool: Any, played: Serving) -> None:
    queue = Queue(pool, "default")
    courier = Courier(queue, {HOOK: hooks(played)}, [HOOK])
    await workflow(pool)
    await pause(pool, "p1")
    played.office.failing["webhook"] = 503
    began = await pool.fetchval("SELECT handrail.clock()")
    while await pool.fetchval("SELECT handrail.clock()") - began < timedelta(hours=1):
        await courier.once()
        await advance(pool, timedelta(seconds=20))
    tries = played.office.tries["webhook"]
    assert 4 <= tries <= 6, f"5 s, 30 s, 5 min, 30 min: but it was tried {tries} times"
    [row] = await rows(pool)
    assert (row["state"], row["attempts"], row["error"]) == ("due", tries, "the receiver answered 503")
    assert await pool.fetchval("SELECT state FROM handrail.pause") == "open", "the pause knows nothing of it"
    played.office.failing.clear()
    for _ in range(10):
        await advance(pool, timedelta(minutes=30))
        await courier.once()
    assert [h["id"] for h in played.office.hooks] == ["default_webhook_1_opened_p1"]
    [row] = await rows(pool)
    assert (row["state"], row["due_at"], row["error"]) == ("sent", None, None)


async def test_a_receiver_that_never_takes_it_is_left_after_days_and_one_that_is_gone_at_once(
    pool: Any, played: Serving
) -> None:
    courier = Courier(Queue(pool, "default"), {HOOK: hooks(played)}, [HOOK])
    await pause(pool, "p1")
    played.office.failing["webhook"] = 500
    for _ in range(12):
        await courier.once()
        await advance(pool, timedelta(hours=27))
    [row] = await rows(pool)
    assert (row["state"], row["attempts"]) == ("parked", 11)
    await pause(pool, "p2")
    played.office.failing["webhook"] = 410
    await courier.once()
    assert {r["state"] for r in await rows(pool)} == {"parked"}
    assert played.office.tries["webhook"] == 12


async def test_a_courier_that_died_leaves_its_notice_to_the_next_under_the_same_id(pool: Any, played: Serving) -> None:
    queue = Queue(pool, "default")
    await pause(pool, "p1")
    await queue.feed([HOOK])
    [claimed] = await queue.claim([HOOK], 10)
    await hooks(played).deliver(claimed)  # and dies before it says so
    courier = Courier(queue, {HOOK: hooks(played)}, [HOOK])
    assert await courier.once() == 0
    await advance(pool, timedelta(seconds=61))
    assert await courier.once() == 1
    first, second = played.office.hooks
    assert first == second


async def test_the_callback_of_an_escalation_is_delivered_as_it_was_written(pool: Any, played: Serving) -> None:
    said = {"event_type": "MESSAGE_ADDED", "pause_id": "p1", "role": "operator", "text": "Sorry."}
    body = {
        "url": f"{played.url}/webhook",
        "type": "handrail.message_added",
        "timestamp": "2026-11-26T15:05:01.000Z",
        "data": said,
    }
    # As the orchestrator writes it, with the event and in its transaction.
    await pool.execute(
        "INSERT INTO handrail.outbound (tenant, id, channel, trace_id, pause_id, body, due_at)"
        " VALUES ('default', 'default/t/9', 'callback', 't', 'p1', $1, handrail.clock())",
        body,
    )
    await Courier(Queue(pool, "default"), {"callback": hooks(played)}, []).once()
    assert played.office.hooks == [
        {"id": "default_t_9", "type": body["type"], "timestamp": body["timestamp"], "data": said}
    ]


async def test_while_keys_are_rotated_both_sign(played: Serving) -> None:
    other = "whsec_" + "b" * 44
    senders = Webhooks({}, [other, play.WEBHOOK_SECRET], frozenset())
    headers = senders.signature("id/1", b'{"a":1}')
    for key in (other, play.WEBHOOK_SECRET):
        assert Webhook(key).verify(b'{"a":1}', headers) == {"a": 1}
    assert len(headers["webhook-signature"].split(" ")) == 2


def callback(url: str) -> Notice:
    return Notice("n", "callback", Kind.CALLBACK, "t", "p", {"url": url, "type": "x", "timestamp": "t", "data": {}}, 1)


async def test_no_spelling_of_an_inner_address_is_called() -> None:
    reached: list[str] = []

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("reached")
        writer.close()

    inner = await asyncio.start_server(heard, "127.0.0.1", 0)
    port = inner.sockets[0].getsockname()[1]
    names = {
        "one.example": ["127.0.0.1"],
        "mixed.example": ["8.8.8.8", "10.0.0.1"],
        "six.example": ["::ffff:127.0.0.1"],
    }

    async def resolver(host: str, _: int) -> Sequence[str]:
        return names.get(host, ["127.0.0.1"])

    sender = Webhooks({}, [play.WEBHOOK_SECRET], frozenset(), resolver)
    for url in (
        f"http://127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}/",
        "https://localhost/",
        "https://[::1]/",
        "https://2130706433/",
        "https://user@one.example/",
        f"https://one.example:{port}/",
        "https://169.254.169.254/latest/meta-data/",
    ):
        with pytest.raises(GiveUp, match="webhook-url-rejected"):
            await sender.deliver(callback(url))
    for name in names:
        with pytest.raises(TryLater, match="not public"):
            await sender.deliver(callback(f"https://{name}/"))
    inner.close()
    assert reached == []


async def test_a_name_that_turns_inward_between_two_tries_is_not_called() -> None:
    """DNS rebinding: what was public when it was accepted leads inside when it is called."""
    asked: list[str] = []

    async def resolver(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return ["203.0.113.7"] if len(asked) == 1 else ["127.0.0.1"]

    sender = Webhooks({}, [play.WEBHOOK_SECRET], frozenset(), resolver)
    for _ in range(2):
        with pytest.raises(TryLater, match="not public"):
            await sender.deliver(callback("https://rebinding.example/"))
    assert asked == ["rebinding.example"] * 2


async def test_redirects_are_not_followed_and_long_answers_not_read() -> None:
    answers = {
        b"/redirect": b"HTTP/1.1 302 Found\r\nLocation: /inner\r\nContent-Length: 0\r\n\r\n",
        b"/later": b"HTTP/1.1 429 Slow\r\nRetry-After: 7200\r\nContent-Length: 0\r\n\r\n",
    }
    asked: list[bytes] = []
    sent = 0

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        path = (await reader.readuntil(b"\r\n")).split(b" ")[1]
        asked.append(path)
        try:
            if path == b"/long":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    sent += 65_536
            writer.write(answers[path])
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(heard, "127.0.0.1", 0)
    at = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sender = Webhooks({}, [play.WEBHOOK_SECRET], frozenset({at}))
    with pytest.raises(TryLater, match="302"):
        await sender.deliver(callback(f"http://{at}/redirect"))
    with pytest.raises(TryLater, match="429") as told:
        await sender.deliver(callback(f"http://{at}/later"))
    assert told.value.after_s == 7_200
    await sender.deliver(callback(f"http://{at}/long"))
    await sender.close()
    server.close()
    assert asked == [b"/redirect", b"/later", b"/long"]
    assert sent < 32 * 1024 * 1024
