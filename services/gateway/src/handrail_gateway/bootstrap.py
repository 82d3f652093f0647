"""Wires a gateway: settings in, service out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import structlog
from redis.asyncio import Redis

from handrail_gateway.adapters.bus import BusLink
from handrail_gateway.adapters.housekeeping import Housekeeping
from handrail_gateway.adapters.intake import PostgresIntake
from handrail_gateway.adapters.postgres import Database
from handrail_gateway.adapters.projection import RedisProjection
from handrail_gateway.adapters.views import PostgresViews
from handrail_gateway.application.dead_letters import DeadLetters
from handrail_gateway.application.dev import Dev
from handrail_gateway.application.escalations import Escalations
from handrail_gateway.application.foresight import Foresight
from handrail_gateway.application.idempotency import Once, Turns
from handrail_gateway.application.lists import Lists
from handrail_gateway.application.policies import Policies
from handrail_gateway.application.quarantine import Quarantine
from handrail_gateway.application.registry import Registry
from handrail_gateway.application.resume import Resume
from handrail_gateway.application.shedding import Shedding
from handrail_gateway.application.snapshots import Snapshots
from handrail_gateway.application.steering import Steering
from handrail_gateway.application.submit import Submit
from handrail_gateway.entrypoints.http.app import application, behind_door
from handrail_gateway.entrypoints.http.server import Server, bound, server
from handrail_gateway.entrypoints.http.usecases import Ledger, UseCases
from handrail_gateway.entrypoints.mcp.endpoint import Mcp
from handrail_gateway.settings import GatewaySettings
from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import backoff, supervise
from handrail_runtime.ports import Bus
from handrail_runtime.settings import EngineSettings
from handrail_store.connect import pool
from handrail_store.migrate import MigrationError, upgrade

Checks = Callable[[], Mapping[str, Callable[[], Awaitable[None]]]]

_log = structlog.get_logger(__name__)


def build(
    settings: GatewaySettings,
    engines: EngineSettings,
    *,
    bus: Bus,
    ledger: Ledger | None = None,
    more_checks: Checks | None = None,
    listen: bool = True,
    dev: bool = False,
) -> Gateway:
    """A gateway on these engines. It opens and closes its own connections to PostgreSQL and Redis; the bus is the
    caller's. `ledger` answers `GET /simulators/ledger` where simulators run; `more_checks` joins the readiness of other
    services to ours; without `listen` nobody listens and `app` is served by the caller. `dev` opens `/dev`, where anybody who
    reaches this port reads the bus and writes to it: for a desk, never for a deployment."""
    return Gateway(settings, engines, bus, ledger, more_checks, listen, dev)


class Gateway:
    """The service. `app` is its ASGI application, usable once `start` has returned; `port` the one listened on."""

    name = "gateway"

    def __init__(
        self,
        settings: GatewaySettings,
        engines: EngineSettings,
        bus: Bus,
        ledger: Ledger | None,
        more_checks: Checks | None,
        listen: bool,
        dev: bool,
    ) -> None:
        self._settings, self._engines, self._bus = settings, engines, bus
        self._ledger, self._more_checks, self._listen, self._dev = ledger, more_checks, listen, dev
        self._stopping = asyncio.Event()
        self._exit = contextlib.AsyncExitStack()
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._parts: list[Callable[[asyncio.Event], Awaitable[None]]] = []
        self._database: Database | None = None
        self.app: Any = None
        self.port = settings.port

    async def start(self) -> None:
        """Brings the database to its newest shape, connects, makes the routes, takes the port. Waits for a database that
        does not answer yet. Raises Misconfigured."""
        if self._listen:
            self._socket = self._bound()
        dsn = self._engines.postgres_dsn.get_secret_value()
        await _migrated(dsn, self._engines.partitions)
        opened = await pool(dsn, min_size=2, max_size=self._settings.connections, app="handrail-gateway", raw_json=True)
        self._exit.push_async_callback(_closed, opened)
        self._database = Database(opened)
        self._wire(self._database)
        if self._socket is not None:
            self._server = server(self.app)

    async def run(self) -> None:
        """Serves until `stop`; raises when a part fails."""
        parts = [part(self._stopping) for part in self._parts]
        if self._server is not None and self._socket is not None:
            parts.append(self._serve(self._server, self._socket))
        try:
            await supervise(*(_awaited(part) for part in parts), until=self._stopping)
        finally:
            await self._exit.aclose()

    async def stop(self) -> None:
        """Finishes the requests that are under way. Idempotent."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        elif self._socket is not None:
            self._socket.close()

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Ready means that PostgreSQL answers: starts and decisions are accepted with Kafka and Redis down."""
        more = self._more_checks() if self._more_checks is not None else {}
        return {"postgres": self._postgres_answers, **more}

    async def _postgres_answers(self) -> None:
        assert self._database is not None
        async with self._database.connection() as connection:
            await connection.fetchval("SELECT 1")

    def _wire(self, database: Database) -> None:
        settings, tenant, partitions = self._settings, self._engines.tenant, self._engines.partitions
        link = BusLink(self._bus, partitions)
        views = PostgresViews(database)
        intake = PostgresIntake(database, link, partitions)
        projection = RedisProjection(Redis.from_url(self._engines.redis_url.get_secret_value()))
        self._exit.push_async_callback(projection.close)
        turns = Turns()
        once = Once(intake, turns)
        shedding = Shedding(views, time.monotonic, settings.most_unpublished)
        registry = Registry(views, tenant, time.monotonic)
        submit = Submit(intake, registry, shedding, turns)
        use = UseCases(
            tenant=tenant,
            submit=submit,
            escalations=Escalations(submit, views),
            resume=Resume(once),
            steering=Steering(once),
            dead_letters=DeadLetters(once),
            quarantine=Quarantine(once, intake, link, partitions),
            snapshots=Snapshots(views, tenant, projection),
            lists=Lists(views, tenant),
            foresight=Foresight(views, tenant),
            views=views,
            policies=Policies(views, once, registry, tenant),
            ledger=self._ledger,
            dev=Dev(self._bus, views, tenant) if self._dev else None,
            checks=self.checks,
            accepting=lambda: not self._stopping.is_set(),
        )
        routes = application(use, partitions=partitions)
        mcp = Mcp(routes, use, settings.tools())
        self.app, forward = behind_door(mcp, settings.hosts(), settings.notifier_url, self._engines.origins())
        if forward is not None:
            self._exit.push_async_callback(forward.close)
        self._parts = [link.run, mcp.run, Housekeeping(database, settings.housekeeping_s).run]

    def _bound(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        try:
            sock = bound(host, port)
        except OSError as e:
            raise Misconfigured(
                f"Expected the port {port} on {host} to be free, but: {e.strerror}. Set HANDRAIL_GATEWAY__PORT."
            ) from e
        self.port = int(sock.getsockname()[1])
        return sock

    async def _serve(self, web: Server, sock: socket.socket) -> None:
        _log.info("gateway_listening", host=self._settings.host, port=self.port)
        await web.serve(sockets=[sock])


async def _awaited(part: Awaitable[None]) -> None:
    await part


async def _closed(opened: Any) -> None:
    try:
        async with asyncio.timeout(5.0):
            await opened.close()
    except TimeoutError:
        opened.terminate()


async def _migrated(dsn: str, partitions: int) -> None:
    for pause_s in backoff():
        try:
            await upgrade(dsn, partitions)
        except MigrationError as e:
            raise Misconfigured(str(e)) from e
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as e:
            raise Misconfigured(f"HANDRAIL_POSTGRES_DSN: Expected a database that lets us in, but: {e}.") from e
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as e:
            _log.warning("database_not_ready", kind=type(e).__name__, again_in_s=round(pause_s, 1))
            await asyncio.sleep(pause_s)
        else:
            return
