"""Faust reads the tasks: the safe recipe of DESIGN section 8, all of it in this file. It carries no guarantee.

What Faust acknowledges too early, loses at a rebalance or delivers twice is made harmless elsewhere: the owner sends
unclaimed attempts again, and the ledger lets each run once. So: no tables, no changelogs, no topic of its own, one
stream with `noack`, acknowledgement at hand-off, no exception out of the loop, our own producer for answers.

Acknowledged in the order of the offsets: of records acknowledged out of order Faust 0.15.3 commits one too many.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from handrail_agents.drivers.hands import Hands
from handrail_runtime.ports import Record, TopicPartition

_log = structlog.get_logger(__name__)
STARTED_S = 60.0
STOPPED_S = 15.0


def available() -> bool:
    """Whether Faust is installed here: it has no wheels for Windows."""
    if sys.platform == "win32":
        return False
    return importlib.util.find_spec("faust") is not None


class FaustDriver:
    """Implements `runtime.service.Driver` by a Faust application that lives in our event loop."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str], hands: Hands) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, list(topics)
        self._hands = hands
        self._stopping = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None
        self._app: Any = None
        self._ended: asyncio.Future[None] | None = None
        self._folder: str | None = None
        self._lines: dict[TopicPartition, deque[_Note]] = {}

    async def start(self) -> None:
        """As the port says."""
        self._failed = asyncio.get_running_loop().create_future()
        for name in ("faust", "mode"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._folder = tempfile.mkdtemp(prefix="handrail-faust-")  # it makes folders even where it keeps nothing
        self._app = self._make(self._folder)
        await asyncio.wait_for(self._app.start(), STARTED_S)

    def _make(self, folder: str) -> Any:
        import faust

        brokers = ";".join(f"kafka://{server}" for server in self._bootstrap.split(","))
        app: Any = faust.App(
            self._group,
            broker=brokers,
            store="memory://",
            datadir=folder,
            monitor=_quiet_monitor(),
            loop=asyncio.get_running_loop(),
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            processing_guarantee="at_least_once",
            consumer_auto_offset_reset="earliest",
            consumer_metadata_max_age_ms=5_000,  # a topic made just now may be missing from what the group was dealt
            broker_session_timeout=10,
            broker_heartbeat_interval=2,
            broker_commit_interval=1.0,
            broker_commit_every=1_000,
            broker_max_poll_records=500,
            stream_wait_empty=False,
            worker_redirect_stdouts=False,
        )
        tasks = app.topic(*self._topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        _deliver_at_once(app)
        app.agent(tasks, concurrency=1, name="handrail-tasks")(self._read)
        app.finalize()
        return app

    async def _read(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                for each in (event, *_at_hand(stream)):
                    await self._offer(each)
            except asyncio.CancelledError:
                raise
            except Exception as e:  # noqa: BLE001  the recipe: what leaves this loop would let Faust restart it as it likes
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(e)
                await self._stopping.wait()

    async def _offer(self, event: Any) -> None:
        if not self._stopping.is_set() and self._hands.room == 0:
            await self._hands.wait_for_room()
        if self._stopping.is_set():
            return  # unacknowledged: another worker gets it
        if event.message.generation_id == self._app.consumer_generation_id:  # else it was dealt to somebody else
            self._hands.offer(_record(event.message), self._noted(event))

    def _noted(self, event: Any) -> Callable[[], None]:
        """What acknowledges the event, and those behind it that only waited for it."""
        line = self._lines.setdefault((event.message.topic, event.message.partition), deque())
        note = _Note(event)
        line.append(note)

        def taken() -> None:
            note.taken = True
            while line and line[0].taken:
                line.popleft().event.ack()

        return taken

    async def run(self) -> None:
        """As the port says."""
        assert self._failed is not None
        self._ended = ended = asyncio.ensure_future(self._app.wait_until_stopped())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self._failed.done():
            self._failed.result()
        if not self._stopping.is_set():
            raise ConnectionError("Expected Faust to read on, but it stopped. Start the agents again; nothing is lost.")

    async def stop(self) -> None:
        """As the port says. Nothing is acknowledged that was not handed off."""
        self._stopping.set()

    async def close(self) -> None:
        """As the port says."""
        app, self._app = self._app, None
        if app is None:
            return
        try:
            await asyncio.wait_for(app.stop(), STOPPED_S)
            if self._ended is not None:
                await asyncio.wait({self._ended}, timeout=1.0)  # cancelled, it would leave tasks of Faust's behind
        except TimeoutError:
            _log.warning("faust_stop_timed_out")
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


class _Note:
    __slots__ = ("event", "taken")

    def __init__(self, event: Any) -> None:
        self.event, self.taken = event, False


def _at_hand(stream: Any) -> list[Any]:
    """What else lies in the stream's queue. Faust itself gives one event per turn of the loop, three turns each."""
    queue, events = stream.channel.queue, list[Any]()
    while not queue.empty():
        events.append(queue.get_nowait())
    return events


def _deliver_at_once(app: Any) -> None:
    """Lets the consumer put a message into the queue without two asyncio tasks around each, as long as nothing is in its
    way: while the flow is suspended, or the queue full, Faust does as always."""
    from faust.transport.drivers.aiokafka import Consumer

    class DirectConsumer(Consumer):
        async def wait_first(self, *waits: Any, timeout: Any = None) -> Any:
            if len(waits) == 2 and not self.suspend_flow.is_set() and self._queues_have_room():
                delivery, suspended = waits
                suspended.close()
                return await delivery
            return await super().wait_first(*waits, timeout=timeout)

        def _queues_have_room(self) -> bool:
            return app.flow_control.is_active() and not any(t.queue.full() for t in app.topics)

    app.transport.Consumer = DirectConsumer


def _quiet_monitor() -> Any:
    """Faust's monitor without its statistics of each message, which nobody reads and which cost an eighth of its time."""
    from faust.sensors.monitor import Monitor

    monitor: Any = Monitor()

    def seen(tp: Any, *_: Any) -> None:
        monitor.stream_inbound_time[tp] = time.monotonic()  # what its watchdog looks at

    monitor.on_stream_event_in = seen
    monitor.on_message_in = monitor.on_stream_event_out = monitor.on_message_out = _nothing
    return monitor


def _nothing(*_: Any) -> None:
    pass


def _record(message: Any) -> Record:
    headers = message.headers or ()
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    at_ms = int(message.timestamp * 1000) if message.timestamp else 0
    return Record(message.topic, message.partition, message.offset, message.key, message.value, pairs, at_ms)
