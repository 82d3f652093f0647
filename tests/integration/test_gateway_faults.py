"""What the gateway does while something else does not work: accepts without Kafka and Redis, says so without PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import PARTITIONS, Rig, memory_bus, node, running_gateway
from tests.waiting import wait_until

from handrail.engines.postgres import LocalPostgres
from handrail_contracts import topics
from handrail_gateway.bootstrap import build
from handrail_gateway.settings import GatewaySettings
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.errors import Misconfigured
from handrail_runtime.ports import BusError, Outgoing, Producer
from handrail_runtime.settings import EngineSettings

PLAN = {"plan": {"nodes": [node("a")]}}


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: str) -> AsyncGenerator[str]:
    made = await fresh_database(postgres_server)
    yield made
    await drop_database(postgres_server, made)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalPostgres]:
    """A server that this module may stop, kill and freeze."""
    server = await LocalPostgres.start(tmp_path_factory.mktemp("postgres"))
    yield server
    await server.stop()


class BrokenBus(MemoryBus):
    """A Kafka that is down (`refuses`), or that never answers."""

    def __init__(self, *, refuses: bool) -> None:
        super().__init__()
        self.refuses = refuses
        self.asked = 0

    async def producer(self) -> Any:
        self.asked += 1
        if self.refuses:
            raise BusError("Expected a broker, but none answers.")
        await asyncio.Event().wait()


@pytest.mark.parametrize("refuses", [True, False])
async def test_starts_and_decisions_are_accepted_with_kafka_and_redis_down(dsn: str, refuses: bool) -> None:
    bus = BrokenBus(refuses=refuses)
    async with running_gateway(dsn, bus=bus) as rig:
        await rig.register()
        assert (await rig.post("/workflows", PLAN)).status_code == 202
        trace_id, _ = await rig.paused()
        assert (await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})).status_code == 202
        assert (await rig.get(f"/workflows/{trace_id}/state")).status_code == 200
        assert (await rig.get("/readyz")).status_code == 200
        await wait_until(lambda: bus.asked > 0, description="a try to reach the bus")


async def test_a_record_cannot_be_put_back_while_the_bus_is_down(dsn: str) -> None:
    async with running_gateway(dsn, bus=BrokenBus(refuses=True)) as rig:
        record_id = await rig.db.fetchval(
            'INSERT INTO handrail.quarantine (topic, partition, "offset", bus_id, headers, reason, at)'
            " VALUES ($1, 0, 0, 'x', '[]', 'x', now()) RETURNING id",
            topics.RESULTS,
        )
        answer = await rig.post(f"/quarantine/{record_id}/replay")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert await rig.db.fetchval("SELECT state FROM handrail.quarantine WHERE id = $1", record_id) == "open"


class FlakyProducer:
    """Fails its first sends, as a broker that changes its leader."""

    def __init__(self, inner: Producer, failures: list[int]) -> None:
        self._inner, self._failures = inner, failures

    async def send(self, messages: list[Outgoing]) -> list[BusError | None]:
        if self._failures:
            self._failures.pop()
            return [BusError("not now") for _ in messages]
        return await self._inner.send(messages)

    async def close(self) -> None:
        await self._inner.close()


async def test_nudges_go_on_after_the_bus_was_away(dsn: str) -> None:
    bus = await memory_bus()
    failures = [1, 2]
    make = bus.producer

    async def flaky() -> Any:
        return FlakyProducer(await make(), failures)

    bus.producer = flaky  # type: ignore[method-assign]
    async with running_gateway(dsn, bus=bus) as rig:
        await rig.register()

        async def nudged() -> bool:
            await rig.post("/workflows", PLAN)
            ranges = await bus.ranges([(topics.COMMANDS, p) for p in range(PARTITIONS)])
            return sum(r.end for r in ranges.values()) > 0

        await wait_until(nudged, description="a nudge after two failed sends")
        assert failures == []


async def test_starts_are_shed_while_too_much_waits_to_be_published(dsn: str) -> None:
    async with running_gateway(dsn, most_unpublished=100) as rig:
        await rig.register()
        kept = await rig.post("/workflows", PLAN, Idempotency_Key="before")
        await rig.db.execute("UPDATE handrail.partition SET next_pseq = 1000 WHERE p = 1")

        async def shed() -> Any:
            answer = await rig.post("/workflows", PLAN)
            return answer if answer.status_code != 202 else None

        await wait_until(shed, description="the door to close")
        answer = await shed()
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
        assert int(answer.headers["retry-after"]) > 0
        trace_id, _ = await rig.paused()
        assert (await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})).status_code == 202
        again = await rig.post("/workflows", PLAN, Idempotency_Key="before")
        assert (again.status_code, again.content) == (202, kept.content)
        await rig.db.execute("UPDATE handrail.partition SET published_upto = 999 WHERE p = 1")

        async def opened() -> bool:
            return (await rig.post("/workflows", PLAN)).status_code == 202

        await wait_until(opened, description="the door to open")


async def test_a_full_disk_is_told_and_stores_nothing(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        await rig.register()
        trace_id, pause_id = await rig.paused()
        await rig.db.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON handrail.command FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        for path, body in (("/workflows", PLAN), (f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})):
            answer = await rig.post(path, body, Idempotency_Key="full")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/storage-full")
            assert int(answer.headers["retry-after"]) > 0
            assert "extend" not in answer.text
        assert await rig.db.fetchval("SELECT count(*) FROM handrail.decision") == 0
        assert await rig.db.fetchval("SELECT count(*) FROM handrail.idempotency") == 0
        await rig.db.execute("DROP TRIGGER full_disk ON handrail.command")
        for path, body in (("/workflows", PLAN), (f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})):
            assert (await rig.post(path, body, Idempotency_Key="full")).status_code == 202
        assert (await rig.get(f"/pauses/{pause_id}")).json()["decision"] is not None


async def test_one_bad_start_of_a_batch_does_not_take_the_others_down(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        await rig.register()
        await rig.db.execute(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.trace_id = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER picky BEFORE INSERT ON handrail.command FOR EACH ROW EXECUTE FUNCTION picky()"
        )
        names = [*(f"good-{i}" for i in range(20)), "bad", *(f"late-{i}" for i in range(20))]
        answers = await asyncio.gather(*(rig.post("/workflows", {**PLAN, "trace_id": name}) for name in names))
        codes = {name: a.status_code for name, a in zip(names, answers, strict=True)}
        assert codes.pop("bad") == 500
        assert set(codes.values()) == {202}
        assert await rig.db.fetchval("SELECT count(*) FROM handrail.command") == 40


async def unavailable(rig: Rig, path: str, body: Any = None) -> float:
    """Seconds until the 503."""
    began = time.monotonic()
    answer = await (rig.get(path) if body is None else rig.post(path, body))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    return time.monotonic() - began


async def test_without_postgres_every_route_says_so_and_comes_back(own_postgres: LocalPostgres) -> None:
    async with running_gateway(own_postgres.dsn) as rig:
        await rig.register()
        trace_id = (await rig.post("/workflows", PLAN)).json()["trace_id"]
        await own_postgres.kill()
        for path, body in (
            ("/workflows", PLAN),
            ("/workflows", None),
            (f"/workflows/{trace_id}/state", None),
            (f"/workflows/{trace_id}/cancel", {}),
            ("/inbox", None),
            ("/feedback.jsonl", None),
        ):
            await unavailable(rig, path, body)
        assert (await rig.get("/healthz")).status_code == 200
        assert (await rig.get("/readyz")).status_code == 503
        await own_postgres.restart()

        async def back() -> bool:
            return (await rig.post("/workflows", PLAN)).status_code == 202

        await wait_until(back, description="starts to be accepted again")
        assert (await rig.get(f"/workflows/{trace_id}/state")).status_code == 200
        assert (await rig.get("/readyz")).status_code == 200


async def test_a_postgres_that_hangs_is_given_up(own_postgres: LocalPostgres) -> None:
    async with running_gateway(own_postgres.dsn) as rig:
        await rig.register()
        assert (await rig.post("/workflows", PLAN)).status_code == 202
        postmaster = psutil.Process(own_postgres.pid)
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        try:
            answers = await asyncio.gather(
                *(unavailable(rig, "/workflows", PLAN) for _ in range(30)), unavailable(rig, "/inbox")
            )
            assert len(answers) == 31
        finally:
            for process in frozen:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

        async def back() -> bool:
            return (await rig.post("/workflows", PLAN)).status_code == 202

        await wait_until(back, description="starts to be accepted again")


async def test_many_cancelled_requests_leave_no_connection_behind(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        await rig.register()

        async def leave() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"GET /workflows HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await writer.drain()
            writer.transport.abort()
            assert reader is not None

        for _ in range(10):
            await asyncio.gather(*(leave() for _ in range(50)))

        async def idle() -> bool:
            busy = await rig.db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'handrail-gateway'"
                " AND datname = current_database() AND state <> 'idle'"
            )
            return busy == 0

        await wait_until(idle, description="all connections to be idle")
        held = await rig.db.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'handrail-gateway' AND datname = current_database()"
        )
        assert held <= 10
        assert (await rig.get("/workflows")).status_code == 200


async def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    server = await LocalPostgres.start(tmp_path / "postgres")
    dsn = server.dsn
    await server.kill()
    engines = EngineSettings(postgres_dsn=SecretStr(dsn), partitions=PARTITIONS)
    gateway = build(GatewaySettings(port=0), engines, bus=await memory_bus())
    starting = asyncio.create_task(gateway.start())
    try:
        _, pending = await asyncio.wait({starting}, timeout=0.5)
        assert pending
        await server.restart()
        await starting
        running = asyncio.create_task(gateway.run())
        await gateway.stop()
        await running
    finally:
        starting.cancel()
        await server.stop()


def settings(dsn: str, partitions: int = PARTITIONS) -> EngineSettings:
    return EngineSettings(postgres_dsn=SecretStr(dsn), partitions=partitions)


async def test_settings_that_do_not_fit_are_told_in_one_line(dsn: str, postgres_server: str) -> None:
    async with running_gateway(dsn) as rig:
        taken = GatewaySettings(port=rig.port)
        with pytest.raises(Misconfigured, match="HANDRAIL_GATEWAY__PORT"):
            await build(taken, settings(dsn), bus=rig.bus).start()
        with pytest.raises(Misconfigured, match=f"HANDRAIL_PARTITIONS={PARTITIONS}"):
            await build(GatewaySettings(port=0), settings(dsn, 24), bus=rig.bus).start()
        missing = postgres_server.replace("/handrail?", "/nowhere?").replace("/postgres?", "/nowhere?")
        with pytest.raises(Misconfigured, match="HANDRAIL_POSTGRES_DSN") as caught:
            await build(GatewaySettings(port=0), settings(missing), bus=rig.bus).start()
        assert "\n" not in str(caught.value)


async def test_stopping_finishes_what_is_under_way_and_frees_the_port(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        await rig.register()
        port = rig.port
        requests = [asyncio.create_task(rig.post("/workflows", PLAN)) for _ in range(20)]
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        await rig.gateway.stop()
        await rig.gateway.stop()
        answers = await asyncio.gather(*requests, return_exceptions=True)
        accepted = [a for a in answers if not isinstance(a, BaseException)]
        assert all(a.status_code == 202 for a in accepted)
        stored = await rig.db.fetchval("SELECT count(*) FROM handrail.command")
        assert stored >= len(accepted)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_pool_connection_comes_back_clean_after_a_failed_transaction(dsn: str) -> None:
    from handrail_gateway.adapters.postgres import Database
    from handrail_store.connect import pool

    opened = await pool(dsn, app="test", min_size=1, max_size=1)
    try:
        database = Database(opened)
        for fault in (ValueError("x"), asyncio.CancelledError()):
            with pytest.raises(type(fault)):
                async with database.transaction() as c:
                    await c.execute("CREATE TEMP TABLE leftover (x int)")
                    raise fault
            async with database.connection() as c:
                assert not c.is_in_transaction()
                assert await c.fetchval("SELECT to_regclass('leftover')") is None
        with pytest.raises(asyncpg.UniqueViolationError):
            async with database.transaction() as c:
                await c.execute("CREATE TEMP TABLE once (x int PRIMARY KEY)")
                await c.execute("INSERT INTO once VALUES (1), (1)")
        async with database.connection() as c:
            assert await c.fetchval("SELECT 1") == 1
    finally:
        await opened.close()
