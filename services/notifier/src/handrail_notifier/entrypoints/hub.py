"""All clients of this process. One writer wakes the clients of a feed that changed, one clock pings, evicts, retires.

A client is a cursor on a feed and a sink to write to. It has no queue: what it has not got yet is in the feed. While
its sink is busy it is left alone; when the sink can take more, it is given what is next by then. So a slow client costs
nothing but its send buffer, and one that does not take anything for `send_timeout_s` is evicted.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from handrail_notifier.application.ports import Signals, Unavailable
from handrail_notifier.domain.window import Cold, Piece
from handrail_runtime.telemetry import counter, gauge, histogram

_log = structlog.get_logger(__name__)

SLOTS = 15
SLICE = 200
"""So many clients are written to before everything else gets a turn: about two milliseconds."""
DRAIN_S = 3.0
BYE_RETRY_MS = (1_000, 5_000)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.0, 10.0)


class Feed(Protocol):
    """What clients follow. Cursors rise; a piece names the cursor after it."""

    @property
    def frames(self) -> Signals:
        """How its readers are told what is not news."""
        ...

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor; None when there is nothing yet."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing will follow the head."""
        ...

    @property
    def broken(self) -> bool:
        """It cannot be served any longer."""
        ...

    def take_published_ms(self) -> int:
        """When the newest live event since the last call was published; 0 when there was none."""
        ...

    def farewell(self) -> bytes:
        """The last frame after the end."""
        ...

    def take_news(self) -> bytes:
        """Ephemeral frames for whoever is at the head, once."""
        ...


class Sink(Protocol):
    """Where a client's bytes go. `busy`: not now; the sink calls `Hub.writable` when it can take more."""

    @property
    def busy(self) -> bool:
        """Nothing may be written now."""
        ...

    def write(self, body: bytes) -> None:
        """Sends whole frames."""
        ...

    def finish(self) -> None:
        """Ends the response after what was written."""
        ...

    def abort(self) -> None:
        """Lets go of the connection at once."""
        ...


class Client:
    """One connection. Made by `Hub.join`."""

    __slots__ = ("cursor", "expires_at", "feed", "fetching", "finished", "sink", "slot")

    def __init__(self, feed: Feed, sink: Sink, cursor: int, expires_at: float, slot: int) -> None:
        self.feed, self.sink, self.cursor, self.expires_at, self.slot = feed, sink, cursor, expires_at, slot
        self.fetching = False
        self.finished = False


class Hub:
    """See the module. `fetch` reads for a client what its feed has no longer in memory."""

    def __init__(
        self,
        fetch: Callable[[Feed, int], Awaitable[Piece]],
        *,
        ping_s: float = 15.0,
        send_timeout_s: float = 10.0,
        max_age_s: float = 1800.0,
    ) -> None:
        self._fetch = fetch
        self._ping_s, self._send_timeout_s, self._max_age_s = ping_s, send_timeout_s, max_age_s
        self._feeds: dict[Feed, dict[Client, None]] = {}
        self._slots: list[dict[Client, None]] = [{} for _ in range(SLOTS)]
        self._next_slot = 0
        self._stalled: dict[Client, float] = {}
        self._dirty: dict[Feed, None] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self._clients_gauge = gauge("sse_clients", "Open streams")
        self._evicted = counter("sse_evictions", "Streams closed because nobody read them")
        self._closed = counter("sse_closed", "Streams closed by us", ["why"])
        self._lag = histogram("sse_lag_seconds", "From published to written to the sockets", buckets=LAG_BUCKETS)

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def join(self, feed: Feed, sink: Sink, cursor: int, greeting: bytes) -> Client:
        """A new client behind `cursor`; `greeting` is written first. Give it back with `leave`, whatever happens."""
        now = time.monotonic()
        age = self._max_age_s * random.uniform(0.9, 1.0)
        self._next_slot = (self._next_slot + 1) % SLOTS
        client = Client(feed, sink, cursor, now + age, self._next_slot)
        self._feeds.setdefault(feed, {})[client] = None
        self._slots[client.slot][client] = None
        self._empty.clear()
        self._clients_gauge.inc()
        sink.write(greeting)
        self._pump(client)
        return client

    def leave(self, client: Client) -> None:
        """The connection is gone. Idempotent."""
        clients = self._feeds.get(client.feed)
        if clients is None or client not in clients:
            return
        del clients[client]
        if not clients:
            del self._feeds[client.feed]
            self._dirty.pop(client.feed, None)
        del self._slots[client.slot][client]
        self._stalled.pop(client, None)
        client.finished = True
        self._clients_gauge.dec()
        if not self._feeds:
            self._empty.set()

    def changed(self, feed: Feed) -> None:
        """There is something new in a feed; its clients get it soon."""
        if feed in self._feeds:
            self._dirty[feed] = None
            self._wake.set()
        else:
            feed.take_news()

    def writable(self, client: Client) -> None:
        """A sink that was busy can take more."""
        self._stalled.pop(client, None)
        self._pump(client)

    async def run(self) -> None:
        """Writes and keeps time until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(), name="hub.write")
                tasks.create_task(self._keep_time(), name="hub.clock")
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def drain(self) -> None:
        """Says bye to everybody, with a retry that spreads their coming back, and waits until they are gone; those who
        do not take it within a few seconds are cut off. Idempotent."""
        self.draining = True
        for number, client in enumerate([client for slot in self._slots for client in slot]):
            self._bye(client, "shutdown")
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._empty.wait()
        except TimeoutError:
            for client in [client for slot in self._slots for client in slot]:
                client.sink.abort()

    async def _write(self) -> None:
        written = 0
        while True:
            await self._wake.wait()
            while self._dirty:
                feed = next(iter(self._dirty))
                del self._dirty[feed]
                news = feed.take_news()
                published = feed.take_published_ms()
                for client in list(self._feeds.get(feed, ())):
                    self._pump(client)
                    if news and not client.fetching and not client.finished and not client.sink.busy:
                        client.sink.write(news)
                    written += 1
                    if written % SLICE == 0:
                        await asyncio.sleep(0)
                if published:
                    self._lag.observe(max(0.0, time.time() - published / 1000))
            self._wake.clear()

    def _pump(self, client: Client) -> None:
        feed, sink = client.feed, client.sink
        while not (client.finished or client.fetching):
            if sink.busy:
                self._stalled.setdefault(client, time.monotonic())
                return
            found = feed.after(client.cursor)
            if found is None:
                if feed.broken:
                    self._bye(client, "broken")
                elif feed.ended:
                    farewell = feed.farewell()
                    if farewell:
                        sink.write(farewell)
                    self._finish(client, "end")
                return
            if isinstance(found, Cold):
                client.fetching = True
                task = asyncio.create_task(self._fetch_for(client), name="hub.fetch")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            client.cursor = found.cursor
            sink.write(found.body)

    async def _fetch_for(self, client: Client) -> None:
        try:
            piece = await self._fetch(client.feed, client.cursor)
        except Unavailable:
            client.fetching = False
            self._bye(client, "journal-unavailable")
            return
        client.fetching = False
        if not client.finished:
            client.cursor = piece.cursor
            client.sink.write(piece.body)
            self._pump(client)

    async def _keep_time(self) -> None:
        tick = self._ping_s / SLOTS
        due = time.monotonic()
        for turn in itertools.count():
            due += tick
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self._evict(now)
            pings: dict[Signals, bytes] = {}
            at = _now()
            for number, client in enumerate(list(self._slots[turn % SLOTS])):
                if client.finished:
                    continue
                if now > client.expires_at:
                    self._bye(client, "max-age")
                elif client.sink.busy:
                    self._stalled.setdefault(client, now)
                else:
                    frames = client.feed.frames
                    if frames not in pings:
                        pings[frames] = frames.ping(at)
                    client.sink.write(pings[frames])
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)

    def _evict(self, now: float) -> None:
        for client, since in list(self._stalled.items()):
            if now - since > self._send_timeout_s:
                del self._stalled[client]
                client.finished = True
                self._evicted.inc()
                client.sink.abort()

    def _bye(self, client: Client, why: str) -> None:
        if client.finished:
            return
        if not client.sink.busy:
            client.sink.write(client.feed.frames.bye(random.randint(*BYE_RETRY_MS)))
        self._finish(client, why)

    def _finish(self, client: Client, why: str) -> None:
        client.finished = True
        self._stalled.pop(client, None)
        self._closed.labels(why).inc()
        client.sink.finish()


def _now() -> str:
    now = datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
