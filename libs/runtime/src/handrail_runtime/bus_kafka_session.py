"""Fetching only what moved: a fetch session with each broker that a consumer reads from (KIP-227).

aiokafka names every partition in every fetch, and the broker answers for each, also where nothing came. Within a session
the broker remembers what was asked: a fetch names the partitions whose offset moved, the answer those that have something.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

_SINCE = 7
"""The version of the request that brought sessions."""
_LAST_EPOCH = 2**31 - 1

Asked = tuple[int, int, int]
"""Partition, offset, most bytes: as aiokafka writes it."""


def fetch_in_sessions(client: AIOKafkaClient) -> None:
    """Makes the fetches that go through `client` parts of sessions; everything else goes through as it is.

    aiokafka has no place for that, so `send` is replaced on this one client (it is pinned to 0.14.0 for such things).
    """
    client.send = _Sessions(client).send


class _Sessions:
    """The sessions of one client. The fetcher has at most one fetch under way at each broker."""

    def __init__(self, client: AIOKafkaClient) -> None:
        # Weak, or the client would hold itself until the calm collector comes, hours later.
        self._send = functools.partial(AIOKafkaClient.send, weakref.proxy(client))
        self._by_broker: dict[int, _Session] = {}

    async def send(self, node_id: int, request: Any, **where: Any) -> Any:
        if type(request) is not FetchRequest:
            return await self._send(node_id, request, **where)
        session = self._by_broker.setdefault(node_id, _Session())
        fetch = _Fetch(request, session)
        session.epoch = 0  # a fetch without an answer, whatever became of it, leaves the broker's side in doubt
        response = await self._send(node_id, fetch, **where)
        if response.API_VERSION < _SINCE:
            return response
        if fetch.epoch and response.error_code:  # the session was forgotten: the broker's memory is bounded
            return await self.send(node_id, request, **where)
        session.answered(fetch, response.session_id)
        return response


class _Session:
    """What one broker remembers of us. Epoch 0: nothing that we could rely on; the next fetch names everything, and the
    broker forgets `id` with it."""

    def __init__(self) -> None:
        self.id = self.epoch = 0
        self.known: dict[tuple[str, int], Asked] = {}

    def answered(self, fetch: _Fetch, session_id: int) -> None:
        self.id = max(0, session_id)
        if self.id:  # else the broker has no room for one
            self.known = fetch.wanted
            self.epoch = 1 if fetch.epoch == _LAST_EPOCH else fetch.epoch + 1


class _Fetch(FetchRequest):
    """`whole` as the next fetch of a session: what is new or moved, and what is no longer wanted."""

    def __init__(self, whole: FetchRequest, session: _Session) -> None:
        vars(self).update(vars(whole))
        self._whole, self._session_id, self.epoch = whole, session.id, session.epoch
        known = session.known if session.epoch else {}
        self.wanted = {(topic, asked[0]): asked for topic, partitions in whole.topics for asked in partitions}
        moved: dict[str, list[Asked]] = {}
        for tp, asked in self.wanted.items():
            if known.get(tp) != asked:
                moved.setdefault(tp[0], []).append(asked)
        self._topics = list(moved.items())
        gone: dict[str, list[int]] = {}
        for topic, p in known.keys() - self.wanted.keys():
            gone.setdefault(topic, []).append(p)
        self._gone = list(gone.items())

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < _SINCE:
            return self._whole.build(request_struct_class)
        built: Any = super().build(request_struct_class)
        built.session_id, built.session_epoch, built.forgotten_topics_data = self._session_id, self.epoch, self._gone
        return built
