"""Wires the notifier. `build` for whoever has the engines already, `connect_redis` and `HTTP_PROTOCOL` for whoever serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.types import ASGIApp

from handrail_contracts import topics
from handrail_notifier.adapters.gateway import GatewayDesk
from handrail_notifier.adapters.journal import PostgresJournal
from handrail_notifier.adapters.packing import packed
from handrail_notifier.adapters.redis_tickets import RedisTickets
from handrail_notifier.adapters.redis_view import RedisView
from handrail_notifier.application.agui_tracks import Tracks
from handrail_notifier.application.bundle import Bundles
from handrail_notifier.application.inbox_feed import InboxFeed
from handrail_notifier.application.projection import Projection
from handrail_notifier.application.recent import Recent
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.shared_reader import SharedReader
from handrail_notifier.application.tickets import Tickets
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.window import Piece
from handrail_notifier.entrypoints.agui import AguiEvents, AguiRun
from handrail_notifier.entrypoints.app import create_app
from handrail_notifier.entrypoints.bundle import BundleEvents
from handrail_notifier.entrypoints.consumer import GROUP, FanOut, mind_redis, project, tidy
from handrail_notifier.entrypoints.frames import AguiFrames, SseFrames
from handrail_notifier.entrypoints.hub import Feed, Hub
from handrail_notifier.entrypoints.inbox import InboxEvents
from handrail_notifier.entrypoints.server import Listening
from handrail_notifier.entrypoints.sse import Streams, WorkflowEvents
from handrail_notifier.entrypoints.tickets import SseTickets
from handrail_notifier.entrypoints.transport import StreamProtocol
from handrail_notifier.outbound.desk import open_channels
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_notifier.settings import NotifierSettings
from handrail_runtime.cors import Cors
from handrail_runtime.errors import Misconfigured
from handrail_runtime.health import bus_check
from handrail_runtime.lifecycle import supervise
from handrail_runtime.ports import Bus

HTTP_PROTOCOL = StreamProtocol
"""For `uvicorn.Config(app, http=HTTP_PROTOCOL)`: with it streams take the hot route, without it they work all the same."""
TOPICS_S = 60.0


def connect_redis(url: str) -> Redis:
    """A client as the notifier needs it: bytes, short timeouts, no retries of its own. Connects when it is used."""
    client = Redis.from_url(
        url,
        decode_responses=False,
        socket_connect_timeout=1.0,
        socket_timeout=2.0,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        max_connections=16,
    )
    return packed(client)


class Notifier:
    """The service: `app` is its ASGI application (streams and health), the rest is `lifecycle.Service`."""

    name = "notifier"

    def __init__(
        self,
        settings: NotifierSettings,
        *,
        bus: Bus,
        pool: Any,
        redis: Redis,
        tenant: str,
        origins: Iterable[str],
        gateway_url: Callable[[], str] | None,
        channels: ChannelSettings | None,
    ) -> None:
        frames = SseFrames()
        self._bus = bus
        self._pool = pool
        self._redis = redis
        self._stopping = asyncio.Event()
        self._accepting = False
        self._recheck_s = settings.recheck_s
        self._journal = PostgresJournal(pool, tenant)
        self._store = RedisView(redis)
        self.hub = Hub(
            self._fetch,
            ping_s=settings.ping_s,
            send_timeout_s=settings.send_timeout_s,
            max_age_s=settings.max_age_s,
        )
        self.rings = Rings(
            self._journal,
            self._store,
            frames,
            changed=self._changed,
            grace_s=settings.grace_s,
            start_timeout_s=settings.start_timeout_s,
        )
        self.inbox = InboxFeed(self._journal, frames, tenant=tenant, changed=self.hub.changed, grace_s=settings.grace_s)
        self.bundles = Bundles(self.rings, self._journal, frames, tenant=tenant, changed=self.hub.changed)
        self.tracks = Tracks(self.rings, AguiFrames(), changed=self.hub.changed)
        where = gateway_url or (lambda: settings.gateway_url)
        self._desk = GatewayDesk(where)
        self._channels = open_channels(channels, pool, tenant, where)
        heard = self._channels.nudge if self._channels is not None else None
        self._recent = Recent()
        self._fan_out = FanOut(bus, self.rings, self.inbox, self.bundles, self._recent, heard)
        tickets = Tickets(
            RedisTickets(redis),
            tenant=tenant,
            lifetime_s=settings.ticket_s,
            required=settings.tickets == "required",
        )
        streams = Streams(
            self.hub,
            frames,
            tickets,
            self._fan_out.attend,
            max_streams=settings.max_streams,
            send_timeout_s=settings.send_timeout_s,
        )
        self.app: ASGIApp = create_app(
            {
                "/workflows/{trace_id}/events": WorkflowEvents(
                    self.rings, streams, {"agui": AguiEvents(self.tracks, streams)}, tenant
                ),
                "/inbox/events": InboxEvents(self.inbox, streams),
                "/events": BundleEvents(self.bundles, streams),
                "/sse-tickets": SseTickets(tickets, self.rings, tenant),
                "/ag-ui": AguiRun(self.tracks, self.rings, self._desk, streams, tenant),
                **(self._channels.routes if self._channels is not None else {}),
            },
            allowed=settings.hosts(),
            cors=Cors(origins),
            checks=self.checks,
            accepting=lambda: self._accepting and not self.hub.draining,
        )

    async def start(self) -> None:
        """As `lifecycle.Service`. Waits for the topics; raises Misconfigured when they do not come."""
        try:
            async with asyncio.timeout(TOPICS_S):
                while not await self._topics_exist():  # noqa: ASYNC110  another process makes them
                    await asyncio.sleep(0.5)
        except TimeoutError as e:
            raise Misconfigured(
                f"Expected the topics {topics.EVENTS} and {topics.PROGRESS}, but they do not exist. Run `handrail topics apply`."
            ) from e
        await self._fan_out.open()
        self._accepting = True

    async def run(self) -> None:
        """As `lifecycle.Service`."""
        background = asyncio.create_task(self._serve_clients(), name="notifier.clients")
        try:
            await supervise(self._read(), self._ended(background), until=self._stopping)
        finally:
            background.cancel()
            await asyncio.wait({background})
            await self._desk.close()

    async def stop(self) -> None:
        """As `lifecycle.Service`: no new streams, `bye` to the open ones, then the readers."""
        self._accepting = False
        await self.hub.drain()
        self._stopping.set()

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """PostgreSQL and the bus. Redis is not among them: streams go on without it."""
        return {"postgres": self._check_postgres, "bus": bus_check(self._bus, topics.EVENTS)}

    async def _topics_exist(self) -> bool:
        return all([await self._bus.partitions(topic) for topic in (topics.EVENTS, topics.PROGRESS)])

    async def _check_postgres(self) -> None:
        await self._pool.fetchval("SELECT 1")

    async def _serve_clients(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run(), name="hub")
            tasks.create_task(self.rings.run(), name="rings")

    async def _ended(self, background: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({background, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if background.done():
            background.result()

    async def _read(self) -> None:
        projection = Projection(self._journal, self._store, self._journal, await self._bus.bus_id())
        member = await self._bus.group_reader(GROUP, [topics.EVENTS], from_start=True)
        reader = SharedReader(member, self._recent)
        try:
            await supervise(
                self._fan_out.run(self._stopping),
                project(reader, projection, self._stopping),
                mind_redis(self._store, projection, self.rings, self._stopping),
                tidy(self.rings, self.inbox, self._recheck_s, self._stopping),
                *([self._channels.run(self._stopping)] if self._channels is not None else []),
                until=self._stopping,
            )
        finally:
            await reader.close()

    def _changed(self, watched: Watched) -> None:
        self.hub.changed(watched)
        self.bundles.changed(watched)
        self.tracks.changed(watched)

    async def _fetch(self, feed: Feed, cursor: int) -> Piece:
        if not isinstance(feed, Watched):
            raise TypeError(f"Expected a watched workflow, but found a {type(feed).__name__}.")
        return await self.rings.cold(feed, cursor)


def build(
    settings: NotifierSettings,
    *,
    bus: Bus,
    pool: Any,
    redis: Redis,
    tenant: str = "default",
    origins: Iterable[str] = (),
    gateway_url: Callable[[], str] | None = None,
    channels: ChannelSettings | None = None,
) -> Notifier:
    """A notifier on engines that the caller owns and closes. `pool` is any asyncpg pool, `redis` as `connect_redis` makes
    it, `origins` are those of pages that may listen, `gateway_url` is asked for where the settings do not know it yet.
    `channels` lead out: without them nothing leaves. Nothing is connected or read before `start`."""
    return Notifier(
        settings,
        bus=bus,
        pool=pool,
        redis=redis,
        tenant=tenant,
        origins=origins,
        gateway_url=gateway_url,
        channels=channels,
    )


def listening(inner: Any, host: str, port: int) -> Listening:
    """Any service with an `app` behind the notifier's HTTP server, streams on the hot route: for the one origin of a
    single process."""
    return Listening(inner, host, port)
