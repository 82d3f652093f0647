"""A bus of partitioned logs that is slow, doubles, loses hints, delays, fails halfway, goes down, and forgets everything.

`SimBus` is the cluster; `Connection` is one process's client and implements `ports.Bus`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from handrail_contracts import topics
from handrail_runtime.murmur import partition_of
from handrail_runtime.ports import BusError, LogRange, OffsetOutOfRange, Outgoing, Record, TopicPartition, TopicUnknown
from tests.torture.sim.faults import HINTS, Faults
from tests.torture.sim.loop import Process, SimLoop

SESSION_S = 3.0


class SimBus:
    """Logs by (topic, partition), groups with their positions, and an archive of every event ever appended."""

    def __init__(self, loop: SimLoop, faults: Faults) -> None:
        self.loop, self.faults = loop, faults
        self.id = "bus-1"
        self.counts: dict[str, int] = {}
        self.logs: dict[TopicPartition, list[Record]] = {}
        self.groups: dict[str, Group] = {}
        self.waiting: list[asyncio.Event] = []
        self.archive: list[Record] = []
        self.down = False

    def new_incarnation(self) -> None:
        """As after a restart of the in-memory bus: another id, empty logs, no group remembers anything."""
        self.id = f"bus-{int(self.id[4:]) + 1}"
        for tp in self.logs:
            self.logs[tp] = []
        for group in self.groups.values():
            group.positions.clear()
            group.rebalance()

    def make(self, topic: str, count: int) -> bool:
        if topic in self.counts:
            return False
        self.counts[topic] = count
        for p in range(count):
            self.logs[topic, p] = []
        for group in self.groups.values():
            group.rebalance()
        return True

    def append(self, m: Outgoing) -> None:
        p = m.partition if m.partition is not None else partition_of(m.key or b"", self.counts[m.topic])
        log = self.logs[m.topic, p]
        record = Record(m.topic, p, len(log), m.key, m.value, tuple(m.headers), int(self.loop.time() * 1000))
        log.append(record)
        if m.topic == topics.EVENTS:
            self.archive.append(record)
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            event.set()

    def arrive(self, m: Outgoing) -> None:
        """What becomes of an accepted record: usually it lies in the log at once."""
        f = self.faults
        hint = m.topic.startswith(HINTS)
        if hint and f.hit("record lost", f.lose):
            return
        if hint and f.hit("record late", f.late):
            bus_id = self.id
            self.loop.outside(f.rng.uniform(0.05, 4.0), lambda: self.append(m) if self.id == bus_id else None)
            return
        self.append(m)
        if f.hit("record doubled", f.double):
            self.append(m)


class Connection:
    """Implements `ports.Bus` for one process."""

    forgets = False

    def __init__(self, bus: SimBus, process: Process) -> None:
        self.bus, self.process = bus, process
        self.member: Member | None = None

    async def ask(self, *, drawn: bool = True) -> None:
        """A round trip. Raises BusError while the bus is down. Not `drawn`: seeds keep the stories that they had without it."""
        self.process.check()
        if drawn:
            await asyncio.sleep(self.bus.faults.latency())
            self.process.check()
        if self.bus.down:
            raise BusError("Expected an answer of the bus, but it is down.")

    async def bus_id(self) -> str:
        await self.ask()
        return self.bus.id

    async def ensure_topics(self, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> list[str]:
        await self.ask()
        return [name for name, (count, _) in wanted.items() if self.bus.make(name, count)]

    async def partitions(self, topic: str) -> int:
        await self.ask()
        return self.bus.counts.get(topic, 0)

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogRange]:
        await self.ask()
        return {tp: LogRange(0, len(self.bus.logs[tp])) for tp in partitions}

    async def peek(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        await self.ask(drawn=not any(topic == topics.EVENTS for topic, _ in positions))
        logs = self.bus.logs
        return {tp: logs[tp][at] for tp, at in positions.items() if 0 <= at < len(logs.get(tp, ()))}

    async def producer(self) -> SimProducer:
        await self.ask()
        return SimProducer(self)

    async def reader(self) -> SimReader:
        self.process.check()
        return SimReader(self)

    async def group_reader(self, group: str, names: Sequence[str], *, from_start: bool = True) -> SimGroupReader:
        await self.ask()
        members = self.bus.groups.setdefault(group, Group(self.bus, list(names)))
        return SimGroupReader(self, members)

    async def close(self) -> None:
        """Nothing to let go."""


class SimProducer:
    """Implements `ports.Producer`. What it was asked to send may happen although nobody hears of it."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        self._c.process.check()
        bus, f = self._c.bus, self._c.bus.faults
        done: asyncio.Future[list[BusError | None]] = asyncio.get_running_loop().create_future()
        failed = f.hit("send failed", f.send)
        half = not failed and len(messages) > 1 and f.hit("half sent", f.send)
        unheard = not failed and not half and f.hit("ack lost", f.send)
        most = f.rng.randrange(len(messages)) if half else len(messages)

        def answer(result: list[BusError | None] | BusError) -> None:
            if done.done():
                return
            if isinstance(result, BusError):
                done.set_exception(result)
            else:
                done.set_result(result)

        def arrive() -> None:
            if failed or bus.down:
                bus.loop.outside(f.latency(), lambda: answer(BusError("Expected an acknowledgement, but none came.")))
                return
            outcomes: list[BusError | None] = []
            for i, m in enumerate(messages):
                if m.topic not in bus.counts:
                    outcomes.append(TopicUnknown(f"Expected the topic {m.topic!r}, but it does not exist."))
                elif i < most:
                    bus.arrive(m)
                    outcomes.append(None)
                else:
                    outcomes.append(BusError("Expected an acknowledgement, but the connection broke."))
            lost: Any = BusError("Expected an acknowledgement, but it was lost.") if unheard else outcomes
            bus.loop.outside(f.latency(), lambda: answer(lost))

        bus.loop.outside(f.latency(), arrive)
        return await done

    async def close(self) -> None:
        """Nothing waits."""


class SimReader:
    """Implements `ports.Reader`."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._bus_id = connection.bus.id
        self.closed = False

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        logs = self._c.bus.logs
        self.positions = {tp: len(logs.get(tp, ())) if at is None else at for tp, at in positions.items()}
        self._bus_id = self._c.bus.id

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        self._c.process.check()
        bus = self._c.bus
        until = bus.loop.time() + timeout_s
        while True:
            if bus.down:
                await asyncio.sleep(bus.faults.latency() * 4)
                raise BusError("Expected an answer of the bus, but it is down.")
            taken = self._take(max_records)
            left = until - bus.loop.time()
            if taken or left <= 0 or self.closed:
                await asyncio.sleep(bus.faults.latency() if taken else 0)
                self._c.process.check()
                return [r for r in taken if (r.topic, r.partition) in self.positions]
            event = asyncio.Event()
            bus.waiting.append(event)
            try:
                async with asyncio.timeout(left):
                    await event.wait()
            except TimeoutError:
                pass

    def _take(self, most: int) -> list[Record]:
        taken: list[Record] = []
        for tp, at in self.positions.items():
            if tp in self.paused:
                continue
            log = self._c.bus.logs.get(tp, [])
            if at > len(log):
                raise OffsetOutOfRange(tp[0], tp[1], at)
            records = log[at : at + most - len(taken)]
            taken.extend(records)
            self.positions[tp] = at + len(records)
        return taken

    async def close(self) -> None:
        self.closed = True
        self.positions = {}


class Member:
    """A group member as the cluster knows it."""

    def __init__(self, reader: SimGroupReader) -> None:
        self.reader, self.seen_s = reader, reader.loop.time()


class Group:
    """Members, their shares, and the committed positions. A member that was not heard of for SESSION_S is put out."""

    def __init__(self, bus: SimBus, names: list[str]) -> None:
        self.bus, self.names = bus, names
        self.members: list[Member] = []
        self.positions: dict[TopicPartition, int] = {}

    def rebalance(self) -> None:
        parts = [(t, p) for t in self.names for p in range(self.bus.counts.get(t, 0))]
        for i, member in enumerate(self.members):
            mine = parts[i :: len(self.members)]
            member.reader.reader.paused.clear()
            old = member.reader.reader.positions
            member.reader.reader.positions = {
                tp: old[tp]
                if tp in old and self.positions.get(tp, 0) <= old[tp] <= len(self.bus.logs[tp])
                else self.positions.get(tp, 0)
                for tp in mine
            }

    def look(self) -> None:
        now = self.bus.loop.time()
        gone = [m for m in self.members if now - m.seen_s > SESSION_S or not m.reader.process.alive]
        if gone:
            for m in gone:
                m.reader.reader.positions = {}
            self.members = [m for m in self.members if m not in gone]
            self.rebalance()


class SimGroupReader:
    """Implements `ports.GroupReader`."""

    def __init__(self, connection: Connection, group: Group) -> None:
        self.process, self.loop, self.group = connection.process, connection.bus.loop, group
        self.reader = SimReader(connection)
        self.member = Member(self)
        group.members.append(self.member)
        group.rebalance()

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        self.process.check()
        self._seen()
        try:
            return await self.reader.read(max_records, min(timeout_s, 1.0))
        except OffsetOutOfRange:
            self.group.positions.clear()
            self.group.rebalance()
            return []

    def assignment(self) -> Set[TopicPartition]:
        return self.reader.positions.keys()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.reader.paused.update(partitions)

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        mine = {tp: at for tp, at in positions.items() if tp in self.reader.positions}
        self.reader.positions.update(mine)
        self.reader.paused -= mine.keys()

    def _seen(self) -> None:
        self.member.seen_s = self.loop.time()
        if self.member not in self.group.members:
            self.group.members.append(self.member)
            self.group.rebalance()
        self.group.look()

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        self.process.check()
        if self.member in self.group.members:
            mine = self.reader.positions
            self.group.positions.update({tp: at for tp, at in positions.items() if tp in mine})

    async def close(self) -> None:
        if self.member in self.group.members:
            self.group.members.remove(self.member)
            self.group.rebalance()
        await self.reader.close()
