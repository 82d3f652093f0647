"""What goes over the wire when fetches are parts of a session, against a broker of a few lines."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4, FetchResponse_v11
from aiokafka.protocol.metadata import MetadataRequest

from handrail_runtime.bus_kafka_session import _LAST_EPOCH, fetch_in_sessions

_NOT_FOUND, _WRONG_EPOCH = 70, 71


class Broker(AIOKafkaClient):
    """Follows the protocol of sessions and answers with the partitions that it looked at."""

    def __init__(self) -> None:
        self.newest, self.room, self.lost = 11, True, 0
        self.sessions: dict[int, tuple[int, dict[tuple[str, int], int]]] = {}
        self.seen: list[Any] = []
        self._ids = 0
        fetch_in_sessions(self)

    def __del__(self, _warnings: Any = None) -> None: ...

    async def answer(self, request: Any) -> Any:
        assert isinstance(request, FetchRequest)
        struct: Any = request.prepare({1: (4, self.newest)})
        struct.encode()
        self.seen.append(struct)
        if self.lost:
            self.lost -= 1
            raise KafkaConnectionError("gone")
        if struct.API_VERSION < 7:
            return FetchResponse_v4(0, [])
        asked = {(topic, part[0]): part[2] for topic, parts in struct.topics for part in parts}
        if struct.session_epoch == 0:
            self.sessions.pop(struct.session_id, None)
            self._ids += 1
            here = self._ids if self.room else 0
            if here:
                self.sessions[here] = (1, asked)
            return self._answered(here, asked)
        if struct.session_id not in self.sessions:
            return FetchResponse_v11(0, _NOT_FOUND, 0, [])
        epoch, known = self.sessions[struct.session_id]
        if struct.session_epoch != epoch:
            return FetchResponse_v11(0, _WRONG_EPOCH, 0, [])
        for topic, parts in struct.forgotten_topics_data:
            for p in parts:
                del known[topic, p]
        known.update(asked)
        self.sessions[struct.session_id] = (epoch + 1, known)
        return self._answered(struct.session_id, known)

    @staticmethod
    def _answered(session_id: int, known: dict[tuple[str, int], int]) -> Any:
        return FetchResponse_v11(0, 0, session_id, [(t, [(p, 0, o, 0, 0, [], -1, b"")]) for (t, p), o in known.items()])


async def _sent(self: Broker, node_id: int, request: Any, **where: Any) -> Any:
    return await self.answer(request) if isinstance(request, FetchRequest) else (node_id, request, where)


@pytest.fixture(autouse=True)
def _wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AIOKafkaClient, "send", _sent)


async def _fetch(broker: Broker, **offsets: int) -> dict[tuple[str, int], int]:
    """What the broker looked at."""
    response = await broker.send(
        1, FetchRequest(200, 1, 1000, 0, [("t", [(int(p[1:]), o, 10) for p, o in offsets.items()])])
    )
    return {(topic, part[0]): part[2] for topic, parts in response.topics for part in parts}


def _named(struct: Any) -> list[tuple[int, int]]:
    return [(part[0], part[2]) for _, parts in struct.topics for part in parts]


async def test_the_first_fetch_names_everything_and_the_next_ones_what_moved() -> None:
    broker = Broker()
    assert await _fetch(broker, p0=5, p1=6) == {("t", 0): 5, ("t", 1): 6}
    assert await _fetch(broker, p0=5, p1=7) == {("t", 0): 5, ("t", 1): 7}
    assert await _fetch(broker, p0=5, p1=7) == {("t", 0): 5, ("t", 1): 7}
    assert [_named(s) for s in broker.seen] == [[(0, 5), (1, 6)], [(1, 7)], []]
    assert [s.session_epoch for s in broker.seen] == [0, 1, 2]


async def test_what_is_not_wanted_any_more_is_forgotten_and_may_come_back() -> None:
    broker = Broker()
    await _fetch(broker, p0=5, p1=6)
    assert await _fetch(broker, p0=5) == {("t", 0): 5}
    assert broker.seen[-1].forgotten_topics_data == [("t", [1])]
    assert await _fetch(broker, p0=5, p1=6) == {("t", 0): 5, ("t", 1): 6}


async def test_a_session_that_the_broker_forgot_is_begun_anew_within_the_same_fetch() -> None:
    broker = Broker()
    await _fetch(broker, p0=5, p1=6)
    broker.sessions.clear()
    assert await _fetch(broker, p0=5, p1=7) == {("t", 0): 5, ("t", 1): 7}
    assert await _fetch(broker, p0=6, p1=7) == {("t", 0): 6, ("t", 1): 7}
    assert _named(broker.seen[-1]) == [(0, 6)]


async def test_a_fetch_without_an_answer_leaves_no_session_behind() -> None:
    broker = Broker()
    await _fetch(broker, p0=5)
    broker.lost = 1
    with pytest.raises(KafkaConnectionError):
        await _fetch(broker, p0=6)
    assert await _fetch(broker, p0=6) == {("t", 0): 6}
    assert _named(broker.seen[-1]) == [(0, 6)]
    assert len(broker.sessions) == 1, "the old one was named to be ended"


async def test_a_broker_without_room_is_asked_for_everything_and_no_second_time() -> None:
    broker = Broker()
    broker.room = False
    for _ in range(2):
        assert await _fetch(broker, p0=5, p1=6) == {("t", 0): 5, ("t", 1): 6}
    assert [_named(s) for s in broker.seen] == [[(0, 5), (1, 6)]] * 2


async def test_a_broker_from_before_sessions_is_asked_as_ever_also_where_a_newer_one_was() -> None:
    broker = Broker()
    await _fetch(broker, p0=5)
    broker.newest = 4
    for _ in range(2):
        await _fetch(broker, p0=5)
        assert broker.seen[-1].topics == [("t", [(0, 5, 10)])]


async def test_epochs_begin_again_after_the_last() -> None:
    broker = Broker()
    await _fetch(broker, p0=5)
    sessions: Any = broker.send.__self__  # type: ignore[attr-defined]
    sessions._by_broker[1].epoch = _LAST_EPOCH
    broker.sessions[1] = (_LAST_EPOCH, broker.sessions[1][1])
    await _fetch(broker, p0=6)
    broker.sessions[1] = (1, broker.sessions[1][1])
    await _fetch(broker, p0=7)
    assert [s.session_epoch for s in broker.seen] == [0, _LAST_EPOCH, 1]


async def test_other_requests_go_through_as_they_are() -> None:
    broker, request = Broker(), MetadataRequest([])
    assert await broker.send(3, request, group=ConnectionGroup.COORDINATION) == (
        3,
        request,
        {"group": ConnectionGroup.COORDINATION},
    )
