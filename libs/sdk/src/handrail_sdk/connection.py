"""One stream over as many connections as it takes: backoff with jitter, silence, and what a status means."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import httpx2
from pydantic_core import from_json

from handrail_sdk.calls import CONNECT_TIMEOUT_S, Calls, refusal
from handrail_sdk.client_errors import Problem, Unexpected, Unreachable

U = TypeVar("U")

_SILENCE_S = 40.0
"""The server pings every 15 s; longer silence means that the connection is dead, whatever TCP believes."""
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Connection:
    """News of the connection: `live`, or `waiting` for `delay_s` before try number `attempt`, because of `reason`."""

    state: Literal["live", "waiting"]
    attempt: int = 0
    delay_s: float = 0.0
    reason: str = ""


class Reconnecting(ABC, Generic[U]):
    """Follows a stream of server-sent events, connection after connection, and yields what its frames mean.

    Reconnects for ever after what waiting cures (broken connections, silence, `bye`, shed load), first after the pause
    that the server asks for, then doubling, with jitter. Raises Problem and Unexpected for what it does not cure.
    """

    def __init__(self, calls: Calls, on_connection: Callable[[Connection], None] | None) -> None:
        self._calls = calls
        self._tell = on_connection or (lambda _: None)
        self._base_s = _FIRST_RETRY_S
        self._floor_s = 0.0
        self._failures = 0
        self._reason = ""
        self._ticketed = False

    @abstractmethod
    def route(self) -> str:
        """The path of the stream."""

    @abstractmethod
    def ticket(self) -> dict[str, Any]:
        """The body of `POST /sse-tickets` for this stream, where it opens with a ticket only."""

    @abstractmethod
    def position(self) -> str | None:
        """What to send as `Last-Event-ID`, None for nothing."""

    @abstractmethod
    def done(self) -> bool:
        """Nothing more is to come."""

    @abstractmethod
    def take(self, kind: str, data: dict[str, Any]) -> AsyncGenerator[U]:
        """What a frame means."""

    @abstractmethod
    def over(self) -> AsyncGenerator[U]:
        """204, or `end`: what is still missing."""

    async def follow(self) -> AsyncGenerator[U]:
        """Everything until `done`."""
        while not self.done():
            try:
                async with aclosing(self._one_connection()) as steps:
                    async for step in steps:
                        yield step
                        if self.done():
                            return
            except (Unreachable, Problem) as e:
                if self._asks_for_a_ticket(e):
                    self._ticketed = True
                    continue
                if not e.retriable and not self._ticket_was_spent(e):
                    raise
                self._floor_s = (e.retry_after or 0.0) if isinstance(e, Problem) else 0.0
                self._reason = e.reason if isinstance(e, Unreachable) else e.detail
            if not self.done():
                await self._wait()

    async def _one_connection(self) -> AsyncGenerator[U]:
        headers = {"Accept": "text/event-stream"}
        position = self.position()
        if position is not None:
            headers["Last-Event-ID"] = position
        timeout = httpx2.Timeout(_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        self._reason = "the server closed the stream"
        route = self.route() if not self._ticketed else (await self._calls.post("/sse-tickets", self.ticket()))["url"]
        async with self._calls.stream(route, headers, timeout) as response:
            if response.status_code == 204:
                async for step in self.over():
                    yield step
                return
            if response.status_code != 200:
                raise await refusal(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Unexpected(f"Expected an event stream from {response.request.url}, but the answer is not one.")
            self._tell(Connection("live"))
            async with aclosing(self._frames(response)) as steps:
                async for step in steps:
                    yield step

    async def _frames(self, response: httpx2.Response) -> AsyncGenerator[U]:
        # No limit on a frame: the snapshot of ten thousand nodes is one.
        async for frame in httpx2.EventSource(response, max_event_size=None):
            if frame.retry is not None:
                self._base_s = frame.retry / 1000
            match frame.event:
                case "message" | "reset":
                    continue
                case "ping":
                    self._failures = 0
                case "bye":
                    self._reason = "the server is shutting down"
                    return
                case "end":
                    async for step in self.over():
                        yield step
                    return
                case _:
                    self._failures = 0
                    async for step in self.take(frame.event, _object(frame.data)):
                        yield step

    def _asks_for_a_ticket(self, e: Exception) -> bool:
        return not self._ticketed and isinstance(e, Problem) and e.code == "ticket-required"

    def _ticket_was_spent(self, e: Exception) -> bool:
        return self._ticketed and isinstance(e, Problem) and e.code == "ticket-invalid"

    async def _wait(self) -> None:
        delay = min(self._base_s * 2 ** min(self._failures, 10), _LONGEST_RETRY_S) * random.uniform(0.5, 1.0)
        delay += self._floor_s
        self._floor_s = 0.0
        self._failures += 1
        self._tell(Connection("waiting", self._failures, delay, self._reason))
        await asyncio.sleep(delay)


def _object(data: str) -> dict[str, Any]:
    try:
        value = from_json(data)
    except ValueError as e:
        raise Unexpected("Expected JSON in a frame of the stream, but the data is not JSON.") from e
    if not isinstance(value, dict):
        raise Unexpected("Expected a JSON object in a frame of the stream, but the data is not one.")
    return value
