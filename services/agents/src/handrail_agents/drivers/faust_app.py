"""Faust reads the tasks: the safe recipe of DESIGN section 8, all of it in this file. It carries no guarantee.

What Faust acknowledges too early, loses at a rebalance or delivers twice is made harmless elsewhere: the owner sends
unclaimed attempts again, and the ledger lets each run once. So: no tables, no changelogs, no topic of its own, one
stream with `noack`, acknowledgement at hand-off, no exception out of the loop, our own producer for answers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from handrail_agents.drivers.hands import Hands
from handrail_runtime.ports import Record

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

    async def start(self) -> None:
        """As the port says."""
        self._failed = asyncio.get_running_loop().create_future()
        self._app = self._make()
        await asyncio.wait_for(self._app.start(), STARTED_S)

    def _make(self) -> Any:
        import faust

        brokers = ";".join(f"kafka://{server}" for server in self._bootstrap.split(","))
        app: Any = faust.App(
            self._group,
            broker=brokers,
            store="memory://",
            loop=asyncio.get_running_loop(),
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            processing_guarantee="at_least_once",
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=10,
            broker_heartbeat_interval=2,
            broker_commit_interval=1.0,
            broker_commit_every=1_000,
            broker_max_poll_records=500,
            stream_wait_empty=False,
            worker_redirect_stdouts=False,
        )
        tasks = app.topic(*self._topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(tasks, concurrency=1, name="handrail-tasks")(self._read)
        app.finalize()
        return app

    async def _read(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._hands.wait_for_room()
                self._hands.offer(_record(event.message), event.ack)
            except asyncio.CancelledError:
                raise
            except Exception as e:  # noqa: BLE001  the recipe: what leaves this loop would let Faust restart it as it likes
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(e)
                await self._stopping.wait()

    async def run(self) -> None:
        """As the port says."""
        assert self._failed is not None
        crashed = asyncio.ensure_future(self._app.wait_until_stopped())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({crashed, stopping, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            crashed.cancel()
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
        except TimeoutError:
            _log.warning("faust_stop_timed_out")


def _record(message: Any) -> Record:
    headers = message.headers or ()
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    at_ms = int(message.timestamp * 1000) if message.timestamp else 0
    return Record(message.topic, message.partition, message.offset, message.key, message.value, pairs, at_ms)
