"""The loop of an orchestrator: own, read, decide, commit, publish, wake.

One task decides (`_loop`), one publishes, one hears heartbeats. The loop is serial: ownership changes, batches and
catching up never overlap, so that nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from handrail_contracts.ids import partition
from handrail_engine.inputs import Wake
from handrail_orchestrator.application.batch import Batcher
from handrail_orchestrator.application.beats import Beats
from handrail_orchestrator.application.bus_watch import BusWatch
from handrail_orchestrator.application.cache import Cache
from handrail_orchestrator.application.inbound import Inbound
from handrail_orchestrator.application.lane import NotNow
from handrail_orchestrator.application.ownership import Ownership
from handrail_orchestrator.application.ports import CommitUnknown, Fenced, Owned, Store
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.tail import Tail
from handrail_orchestrator.application.takeover import Takeover
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Item, Work
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import backoff, supervise
from handrail_runtime.memory import ran_out
from handrail_runtime.ports import Bus, BusError, OffsetOutOfRange, Reader
from handrail_runtime.telemetry import counter, gauge

_log = structlog.get_logger(__name__)
_held = gauge("partitions_held", "Partitions that this orchestrator owns")
_retried = counter("batch_retries_total", "Batches that were tried again", ["why"])
STEP_S = 1.0


class Orchestrator:
    """The service. `partitions` is P; everything else comes from `bootstrap`."""

    name = "orchestrator"

    def __init__(
        self,
        store: Store,
        bus: Bus,
        tenant: str,
        partitions: int,
        *,
        seen_s: float,
        batch: int,
        poll_s: float,
        cached_nodes: int,
        adopt_foreign: bool,
        bus_check_s: float,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._store, self._bus, self._tenant, self._partitions = store, bus, tenant, partitions
        self._most, self._poll_s, self._adopt_foreign, self._prepare = batch, poll_s, adopt_foreign, prepare
        self._own = Ownership(store, bus, Tail(store, bus, tenant, partitions, self.now_ms), seen_s)
        self._watch = BusWatch(self._own, bus_check_s)
        self._cache, self._wakeups = Cache(cached_nodes), Wakeups()
        self._publisher = Publisher(bus, tenant, partitions, self._payloads)
        self._batcher = Batcher(store, self._cache, self._own, self._publisher, self._wakeups, tenant, self.now_ms)
        self._takeover = Takeover(
            store,
            self._own,
            self._publisher,
            self._batcher,
            self._wakeups,
            tenant,
            self.now_ms,
            bus_forgets=bus.forgets,
        )
        self._inbound = Inbound(tenant, partitions)
        self._reader: Reader | None = None
        self._beats = Beats(bus, self._batcher.beat)
        self._stopping, self._stopped = asyncio.Event(), asyncio.Event()
        self._clock = (0, 0.0)
        self._stepped = self._polled = self._healthy_at = 0.0
        self._nudged = True
        self._work = Work()  # what was read and is not committed yet: only here, for the reader has moved on

    async def _payloads(self, trace_id: str, digests: list[str]) -> dict[str, bytes]:
        try:
            return await self._store.blobs(trace_id, digests)
        except Exception as e:
            if not self._store.is_transient(e):
                raise
            raise NotNow(f"{type(e).__name__}: {e}") from e

    def now_ms(self) -> int:
        """The store's clock in ms: as read last, plus monotonic time since."""
        base, at = self._clock
        return base + int((time.monotonic() - at) * 1000)

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Ready when the loop got through within the last 5 s."""

        async def loop_alive() -> None:
            age = time.monotonic() - self._healthy_at
            if age > 5.0:
                raise TimeoutError(f"Expected the loop to turn within 5 s, but its last turn was {age:.0f} s ago.")

        return {"orchestrator": loop_alive}

    async def start(self) -> None:
        """Prepares the store, loads blueprints, opens the readers."""
        await self._prepare()
        self._reader = await self._bus.reader()
        await self._beats.start()
        await self._tell_time()
        self._healthy_at = time.monotonic()

    async def run(self) -> None:
        """Works until `stop`; raises when a part fails."""
        parts = (self._loop(), self._publisher.run(), self._beats.run(self._stopping), self._batcher.snapshots.run())
        await supervise(*parts, self._watch.run(self._stopping), until=self._stopping)

    async def stop(self) -> None:
        """Finishes the batch, flushes the publisher, gives the partitions back. Idempotent."""
        if self._stopping.is_set():
            await self._stopped.wait()
            return
        self._stopping.set()
        if self._reader is None:
            self._stopped.set()
        await self._stopped.wait()
        if self._reader is not None:
            await self._reader.close()
        await self._beats.close()
        await self._publisher.close()

    async def _loop(self) -> None:
        try:
            delays = backoff()
            while not self._stopping.is_set():
                try:
                    await self._turn()
                    self._healthy_at = time.monotonic()
                    delays = backoff()
                except (Fenced, CommitUnknown) as e:
                    _log.warning("turn_interrupted", kind=type(e).__name__)
                    if isinstance(e, CommitUnknown):
                        self._give_up(set(self._own.held))
                    await asyncio.sleep(next(delays))
                except Misconfigured:
                    raise
                except Exception as e:
                    if not self._store.is_transient(e):
                        raise
                    _log.warning("turn_failed", kind=type(e).__name__, error=str(e)[:200])
                    await asyncio.sleep(next(delays))
            await self._leave()
            await self._publisher.stop()
            self._batcher.snapshots.stop()
        finally:
            self._stopped.set()

    async def _leave(self) -> None:
        try:
            await self._publisher.flush(3.0)
            held = list(self._own.held)
            await self._own.give_back(held, {p: self._publisher.published(p) for p in held})
            await self._store.leave()
        except Exception as e:  # noqa: BLE001  leases run out by themselves
            _log.warning("leave_failed", kind=type(e).__name__)

    async def _turn(self) -> None:
        if time.monotonic() - self._stepped >= STEP_S:
            await self._step()
        if self._work.empty:  # what was read and is not committed yet has offsets of the log as it was
            if exchanged := self._watch.exchanged():
                await self._take_over_bus(exchanged)
            await self._gather(self._work)
        if not self._work.empty:
            await self._process(self._work)
            self._work = Work()

    async def _gather(self, work: Work) -> None:
        """What there is to do. When this fails halfway, what it has read is kept for the next turn."""
        await self._read(work)
        await self._orders(work)
        for told in (*self._beats.taken(), *self._publisher.unsent()):
            work.add(told.trace_id, partition(self._tenant, told.trace_id, self._partitions), Item(told))
        for trace_id in self._wakeups.due(self.now_ms(), self._most):
            work.add(trace_id, partition(self._tenant, trace_id, self._partitions), Item(Wake()))
            crashpoint("K11")

    async def _read(self, work: Work) -> None:
        assert self._reader is not None
        wait = self._wait_s()
        if not self._own.reading():
            await asyncio.sleep(min(wait, 0.05))
            return
        try:
            records = await self._reader.read(self._most, wait)
        except OffsetOutOfRange as e:
            _log.error("offset_out_of_range", topic=e.topic, partition=e.partition, offset=e.offset)
            await self._take_over_bus([e.partition])
            return
        except BusError as e:
            _log.warning("read_failed", kind=type(e).__name__)
            self._watch.doubt()
            await asyncio.sleep(min(wait, 0.2))
            return
        ours = [r for r in records if r.partition in self._own.held]
        if ours:
            self._nudged |= self._inbound.records(ours, work)

    def _wait_s(self) -> float:
        asks = bool(self._own.held)  # who owns nothing asks for no commands, so none of them may hurry it
        if (self._nudged and asks) or self._beats.claimed or self._stopping.is_set():
            return 0.0
        now = time.monotonic()
        wait = self._stepped + STEP_S - now
        if asks:
            wait = min(wait, self._polled + self._poll_s - now)
        due = self._wakeups.next_ms()
        if due is not None:
            wait = min(wait, (due - self.now_ms()) / 1000)
        return max(0.0, wait)

    async def _orders(self, work: Work) -> None:
        if not self._own.held or not (self._nudged or time.monotonic() - self._polled >= self._poll_s):
            return
        commands = await self._store.commands(list(self._own.held), self._most)
        self._nudged = len(commands) == self._most
        self._polled = time.monotonic()
        self._inbound.commands(commands, work)

    async def _process(self, work: Work) -> None:
        """Commits this work, whatever it takes."""
        delays = backoff()
        while True:
            before = {h.p: h.batch for h in self._own.held.values()}
            try:
                await self._batcher.run(work)
                return
            except Fenced:
                _retried.labels("fenced").inc()
                await self._step()
            except CommitUnknown:
                _retried.labels("unknown").inc()
                await asyncio.sleep(next(delays))
                if await self._was_committed(before):
                    return  # what it wrote was published and folded from the journal as it was taken anew
            except Exception as e:  # sorted by kind: the store tells transient from deterministic
                if ran_out(e):
                    raise
                if self._store.is_transient(e):
                    _retried.labels("transient").inc()
                    _log.warning("batch_failed", kind=type(e).__name__, error=str(e)[:200])
                    await asyncio.sleep(next(delays))
                    if time.monotonic() - self._stepped >= STEP_S:
                        await self._step()
                    continue
                _retried.labels("deterministic").inc()
                _log.error("batch_cannot_be_stored", kind=type(e).__name__, error=str(e)[:200], inputs=work.count)
                await self._isolate(work)
                return

    async def _was_committed(self, before: dict[int, int]) -> bool:
        """Asks the partitions' rows until PostgreSQL answers. True: everything was taken anew, what did not commit included.
        Raises CommitUnknown while it is still under way: then the partitions are given up, for nobody can take what it holds."""
        delays = backoff()
        positions = [self._own.position(p, 0, 0, {}) for p in before if p in self._own.held]
        while True:
            try:
                moved = [await self._store.committed([x], before) for x in positions]
                break
            except Fenced:
                moved = [True]  # one of them went to somebody else since: whether the others moved, their rows tell
                break
            except CommitUnknown:
                raise
            except Exception as e:  # noqa: BLE001  only an answer counts
                _log.warning("outcome_not_known_yet", kind=type(e).__name__)
                await asyncio.sleep(next(delays))
        if any(moved):
            await self._forget_everything()
            return True
        return False

    async def _forget_everything(self) -> None:
        """Takes everything anew: the rows say where things stand."""
        await self._release(set(self._own.held))
        await self._step()

    async def _release(self, leaving: set[int]) -> None:
        """Gives partitions back and forgets them, whether or not the store could be told."""
        try:
            await self._own.give_back(leaving, {p: self._publisher.published(p) for p in leaving})
        finally:
            self._lost(leaving)

    def _give_up(self, partitions: set[int]) -> None:
        """Forgets partitions whose state is in doubt: their leases run out, and their next owner begins anew."""
        self._own.drop(partitions)
        self._lost(partitions)

    async def _isolate(self, work: Work) -> None:
        """One workflow's input cannot be stored: find it by committing them one at a time, and park it."""
        for trace_id in list(work.items):
            part = work.only({trace_id}, with_offsets=False)
            try:
                await self._batcher.run(part)
            except Exception as e:
                if self._store.is_transient(e) or isinstance(e, (Fenced, CommitUnknown)) or ran_out(e):
                    raise
                await self._batcher.park(part, trace_id, e)
        rest = Work(offsets=work.offsets, unread=work.unread)
        if not rest.empty:
            await self._batcher.run(rest)

    async def _step(self) -> None:
        """Once a second: time, leases, our share of partitions, and whatever the publisher fell behind with."""
        self._stepped = time.monotonic()
        await self._tell_time()
        before = {p: h.epoch for p, h in self._own.held.items()}
        try:
            _, new, surplus = await self._own.step({p: self._publisher.published(p) for p in before})
        finally:  # by epoch: one that was lost and is ours again has been somebody else's in between
            now = {p: h.epoch for p, h in self._own.held.items()}
            self._lost({p for p, epoch in before.items() if now.get(p) != epoch})
        try:
            await self._take(new)
        except BaseException:
            self._give_up({o.p for o in new})
            raise
        if surplus:
            await self._shed(surplus)
        if self._publisher.overflowed and self._publisher.queued == 0:
            await self._takeover.unpublished([h for h in self._own.held.values() if h.p in self._publisher.overflowed])
        await self._batcher.places.look()
        _held.set(len(self._own.held))

    async def _take(self, new: list[Owned]) -> None:
        """Makes new partitions ours: all of this, or none of them is."""
        for o in new:
            self._publisher.start_at(o.p, o.published_upto)
        if any(not h.verified for h in self._own.held.values()):
            await self._verify()
        if new:
            self._assign()
            await self._takeover.partitions([self._own.held[o.p] for o in new if o.p in self._own.held])

    async def _tell_time(self) -> None:
        before = time.monotonic()
        self._clock = (await self._store.now_ms(), before)

    def _lost(self, lost: set[int]) -> None:
        if not lost:
            return
        self._cache.drop_partitions(lost)
        self._publisher.forget(lost)
        self._work.forget(lost)
        self._assign()

    async def _shed(self, surplus: int) -> None:
        leaving = sorted(self._own.held)[-surplus:]
        await self._publisher.flush(2.0)
        await self._release(set(leaving))

    def _assign(self) -> None:
        if self._reader is not None:
            reading = self._own.reading()
            self._reader.assign(reading)
            self._beats.assign({p for _, p in reading})

    async def _verify(self) -> None:
        try:
            foreign = await self._own.verify()
        except BusError as e:
            _log.warning("bus_not_verified", kind=type(e).__name__)
            return
        self._assign()
        strangers = [h for h in foreign if h.foreign]
        if strangers and not self._adopt_foreign:
            raise Misconfigured(
                "Expected the bus that the stored offsets belong to, but it is another. "
                "HANDRAIL_ORCHESTRATOR__ON_FOREIGN_BUS=adopt takes it over."
            )
        if strangers:
            try:
                await self._takeover.bus(strangers)
            except BaseException:
                self._give_up({h.p for h in strangers})
                raise

    async def _take_over_bus(self, partitions: list[int]) -> None:
        """The log under our feet is another one: verify again, which adopts it."""
        self._own.disown(partitions)
        await self._verify()
