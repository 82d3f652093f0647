"""The bench of `handrail up`: topics are read and written where it is open, and nothing of it exists where it is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, running_gateway

from handrail.embedded import on_a_desk
from handrail_contracts import topics
from handrail_runtime.ports import Outgoing


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def dsn(postgres_server: str) -> AsyncGenerator[str]:
    made = await fresh_database(postgres_server)
    yield made
    await drop_database(postgres_server, made)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def bench(dsn: str) -> AsyncGenerator[Rig]:
    async with running_gateway(dsn, dev=True) as made:
        yield made


async def test_topics_say_what_they_carry_and_how_much_of_it(bench: Rig) -> None:
    found = {each["topic"]: each for each in (await bench.get("/dev/topics")).json()["items"]}
    assert set(found) == {topic.name for topic in topics.TOPICS}
    assert found[topics.RESULTS]["payload"] == ["Result"]
    assert found[topics.RESULTS]["partitions"] == 4


async def test_the_newest_records_come_first_whatever_they_hold(bench: Rig) -> None:
    producer = await bench.bus.producer()
    values = [b'{"n": 1}', b"\xff not JSON", orjson.dumps({"long": "x" * 70_000}), b'{"n": 4}']
    for value in values:
        await producer.send([Outgoing(topics.PROGRESS, b"default/t1", value, [("ce_id", b"a/1")])])
    await producer.close()
    records = (await bench.get(f"/dev/topics/{topics.PROGRESS}/records", limit=3)).json()["items"]
    assert [r["offset"] for r in records] == [3, 2, 1]
    newest, long, broken = records
    assert (newest["value"], newest["text"], newest["key"]) == ({"n": 4}, None, "default/t1")
    assert newest["headers"] == {"ce_id": "a/1"}
    assert (long["value"], len(long["text"]), long["truncated"], long["bytes"]) == (None, 4_000, True, 70_011)
    assert (broken["value"], broken["text"]) == (None, "\ufffd not JSON")


async def test_a_record_is_put_onto_a_topic_as_it_is(bench: Rig) -> None:
    path = f"/dev/topics/{topics.DEAD_LETTERS}/records"
    sent = await bench.post(path, {"text": "nobody can read this", "key": "k", "partition": 2, "headers": {"a": "b"}})
    assert (sent.status_code, sent.json()) == (202, {"topic": topics.DEAD_LETTERS})
    [record] = (await bench.get(path)).json()["items"]
    assert (record["partition"], record["key"], record["text"]) == (2, "k", "nobody can read this")
    refused = await bench.post(path, {"text": "x", "key": "k", "partition": 9})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/validation")
    assert "partition below 4" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["nowhere", "handrail.tasks.nobody", "..%2F..%2Fetc"])
async def test_a_topic_that_is_not_ours_is_told(bench: Rig, name: str) -> None:
    for answer in (
        await bench.get(f"/dev/topics/{name}/records"),
        await bench.post(f"/dev/topics/{name}/records", {"text": "x", "key": "k"}),
    ):
        assert answer.status_code == 404, answer.text


async def test_the_bench_is_announced_and_described_where_it_is(bench: Rig) -> None:
    assert (await bench.get("/healthz")).json() == {"status": "ok", "dev": True}
    paths = (await bench.get("/openapi.json")).json()["paths"]
    assert {path for path in paths if path.startswith("/dev")} == {"/dev/topics", "/dev/topics/{topic}/records"}


@pytest.mark.parametrize(
    ("host", "desk"),
    [
        *((host, True) for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.7", "handrail.example")),
    ],
)
def test_only_what_this_machine_alone_can_reach_is_a_desk(host: str, desk: bool) -> None:
    assert on_a_desk(host) is desk


async def test_without_a_bench_there_is_none(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        assert (await rig.get("/healthz")).json() == {"status": "ok"}
        assert (await rig.get("/dev/topics")).status_code == 404
        path = f"/dev/topics/{topics.RESULTS}/records"
        assert (await rig.post(path, {"text": "x", "key": "k"})).status_code == 404
        assert not [path for path in (await rig.get("/openapi.json")).json()["paths"] if path.startswith("/dev")]
