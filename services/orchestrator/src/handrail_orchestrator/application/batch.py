"""One batch: states, decisions, one transaction, then the messages (DESIGN section 5, "The batch").

The order of things is the guarantee: decide on cached states → commit rows, offsets and everything else at once →
only then hand messages to the publisher. If the commit fails, the touched states are dropped and folded anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson
import structlog

from handrail_contracts.events import EventType
from handrail_contracts.model import iso
from handrail_contracts.tasks import DeadLetter, Heartbeat, Outcome, Result
from handrail_engine.admission import admit
from handrail_engine.decide import begun_by, decide, heard
from handrail_engine.inputs import Decision, GiveUp, Input, Now, Rejection, Say, Wake
from handrail_engine.outgoing import late_effect
from handrail_engine.state import Row, WorkflowState
from handrail_engine.talk import AGENT
from handrail_engine.turn import Message
from handrail_orchestrator.application.cache import Cache, Entry
from handrail_orchestrator.application.inbound import command_input
from handrail_orchestrator.application.loading import Loading
from handrail_orchestrator.application.opened import Opened
from handrail_orchestrator.application.ownership import Ownership
from handrail_orchestrator.application.parking import Parking
from handrail_orchestrator.application.places import Places
from handrail_orchestrator.application.ports import Batch, Store, StoredRow, Transaction
from handrail_orchestrator.application.ports import Decided as DecidedRow
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.records import LETTERED, about, born_week, moved_on, summary
from handrail_orchestrator.application.ruling import Ruling
from handrail_orchestrator.application.snapshots import Snapshots
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Item, Work, given_up_by
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.memory import ran_out
from handrail_runtime.telemetry import counter, histogram

_log = structlog.get_logger(__name__)
_rejected = counter("rejections_total", "Inputs that changed nothing", ["reason"])
_rows = counter("journal_rows_total", "Journal rows written", ["type"])
_inputs = histogram("batch_inputs", "Inputs per batch", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500))
_WINDS_DOWN = ("compensate", "stop", "reject")
_claims = (Outcome.STARTED, Outcome.OK, Outcome.FAILED, Outcome.ESCALATED, Outcome.IN_DOUBT)


class Batcher:
    """Decides and commits. Not re-entrant: the loop calls it serially."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        ownership: Ownership,
        publisher: Publisher,
        wakeups: Wakeups,
        tenant: str,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._cache = cache
        self._own = ownership
        self._publisher = publisher
        self._wakeups = wakeups
        self._tenant = tenant
        self._clock = clock
        self.last_claim: dict[str, int] = {}
        self.places = Places(store, wakeups, clock)
        self.snapshots = Snapshots(store)
        self._loading = Loading(store, tenant, clock, self.last_claim)
        self._registry: Mapping[tuple[str, str], Mapping[str, Any]] = {}
        self.ruling = Ruling(store)
        self._parking = Parking(tenant, ownership, cache, publisher)
        self._over: dict[str, Entry] = {}  # workflows that have ended, loaded for an answer that came after

    async def run(self, work: Work) -> None:
        """Decides on this work and commits it. Raises what the store raises; then nothing has changed but the cache."""
        crashpoint("K1")
        unborn, work.unborn = work.unborn, set()  # whoever tries again looks again: this try may come to be stored
        work = self._ours(work)
        await self._load(work, unborn)
        if any(isinstance(i.what, Result) and i.what.nodes for items in work.items.values() for i in items):
            self._registry = await self._store.registry()  # an agent hands in nodes: judged by what is registered now
        await self.ruling.refresh(self._clock(), work)
        room: dict[str, int] = {}
        opened = Opened(Batch(self._tenant), self.ruling.now(self._clock(), self.last_claim, room), room=room)
        try:
            pauses = [p for t in work.items if (e := self._cache.get(t)) for p in e.state.pauses]
            limited = self.places.concerned(work, lambda t: e.state if (e := self._cache.get(t)) else None)
            if pauses or limited:
                async with self._store.transaction() as tx:
                    decisions = await tx.decisions(pauses) if pauses else []
                    await self._said_before(tx, decisions, work)
                    room.update(await self.places.lock(tx, limited))
                    self._decide(work, opened, decisions)
                    await self._in(tx, work, opened)
            else:
                self._decide(work, opened, [])
                self._build(work, opened)
                crashpoint("K3")
                if not opened.batch.idle:
                    await self._store.commit(opened.batch)
                else:
                    opened.batch.positions.clear()  # no partition's counter moves
        except BaseException:
            for trace_id in work.items:
                self._cache.drop(trace_id)
            raise
        self._committed(opened)

    async def _in(self, tx: Transaction, work: Work, opened: Opened) -> None:
        self._build(work, opened)
        await tx.write(opened.batch)
        crashpoint("K3")

    async def _said_before(self, tx: Transaction, decisions: list[DecidedRow], work: Work) -> None:
        """A decision ends a conversation, perhaps the workflow: what was accepted in it before the decision goes first. Its
        command may have been stored after this work was read; the locks on the pauses say that no more can come."""
        talked = sorted({d.trace_id for d in decisions})
        if not talked:
            return
        known = {i.n for t in talked for i in work.items.get(t, ())}
        said = await tx.messages(list(self._own.held), talked)
        for c in (c for c in said if c.n not in known):
            work.add(c.trace_id, c.p, Item(command_input(c), c.command_id, None, c.n))

    def _ours(self, work: Work) -> Work:
        """What belongs to partitions that we still hold."""
        if all(p in self._own.held for p in work.partition_of.values()) and all(
            p in self._own.held for p, _ in work.offsets
        ):
            return work
        ours = work.only({t for t, p in work.partition_of.items() if p in self._own.held}, with_offsets=False)
        ours.offsets = {k: v for k, v in work.offsets.items() if k[0] in self._own.held}
        ours.unread = [(r, why) for r, why in work.unread if r.partition in self._own.held]
        return ours

    async def _load(self, work: Work, unborn: Collection[str] = ()) -> None:
        self._over.clear()
        missing = [
            t
            for t in work.items
            if t not in unborn and self._cache.get(t) is None and (not self._cache.has_ended(t) or work.answers(t))
        ]
        if not missing:
            return
        given_up = [t for t in missing if given_up_by(work.items[t]) is not None]
        for trace_id, entry in (await self._loading.entries(missing, given_up)).items():
            if entry.state.ended:
                self._over[trace_id] = entry
            self._cache.put(trace_id, entry)

    def _decide(self, work: Work, opened: Opened, decisions: list[DecidedRow]) -> None:
        by_trace: dict[str, list[Item]] = {}
        for d in sorted(decisions, key=self._closes_others):
            what = Decision(d.pause_id, d.action_id, d.input, d.comment, d.actor, d.channel)
            by_trace.setdefault(d.trace_id, []).append(Item(what, f"decision/{d.pause_id}"))
        born = born_week(opened.now.ms)
        for trace_id, items in work.items.items():
            entry = self._cache.get(trace_id) or self._over.get(trace_id)
            if entry is None and not self._cache.has_ended(trace_id):
                entry = Entry(WorkflowState(self._tenant, trace_id), work.partition_of[trace_id], born)
            elif entry is not None and (entry.parked or entry.broken is not None):
                self._parking.stand_still(trace_id, entry, items, opened)
                continue
            if decided := by_trace.get(trace_id):
                before = [i for i in items if isinstance(i.what, Say) and i.what.role != AGENT]
                items = [*before, *decided, *(i for i in items if i not in before)]
            self._one(trace_id, entry, items, opened)

    def _closes_others(self, d: DecidedRow) -> bool:
        """Whether this decision may supersede other pauses: those come last, so that what was decided there is applied too."""
        entry = self._cache.get(d.trace_id)
        pause = entry.state.pauses.get(d.pause_id) if entry is not None else None
        offered = pause.data["available_resolutions"] if pause is not None else ()
        return any(r["action_id"] == d.action_id and r["kind"] in _WINDS_DOWN for r in offered)

    def _one(self, trace_id: str, entry: Entry | None, items: list[Item], opened: Opened) -> None:
        rows: list[Row] = []
        messages: list[Message] = []
        cause: str | None = None
        taken: dict[str, int] = {}
        for item in items:
            if item.n is not None:
                opened.commands.append((item.n, entry))
            if item.what is None:
                continue
            if entry is None:
                self._reject(trace_id, item, Rejection("ended"), opened)
                continue
            self._hear(item, entry, opened.now)
            try:
                what = item.what
                if isinstance(what, Result) and what.nodes:
                    what = admit(entry.state, what, self._registry)
                before = dict(entry.state.places)
                answer = decide(entry.state, what, opened.now)
                self.places.settle(entry.state, before, opened.room, taken)
            except Exception as e:  # whatever a record does to the rules, it parks its workflow and no other
                if ran_out(e):
                    raise
                self._parking.park(trace_id, entry, items, e, opened)
                return
            if isinstance(answer, Rejection):
                self._reject(trace_id, item, answer, opened)
                if isinstance(item.what, Result) and entry.state.ended:
                    self._late(entry, item.what, opened)
                continue
            rows.extend(answer.rows)
            messages.extend(answer.messages)
            if answer.blobs:
                opened.batch.blobs.extend((mark, trace_id, "application/json", body) for mark, body in answer.blobs)
            cause = cause or item.causation
        opened.take(taken)
        if entry is not None:
            if entry.state.exists and trace_id not in self._over:
                opened.touched[trace_id] = entry
            if rows or messages:
                opened.decided.append((entry, rows, messages, cause))

    def _late(self, entry: Entry, r: Result, opened: Opened) -> None:
        """An effect came to light after the end: nothing is appended to the journal, a person finds it among the dead letters."""
        letter = late_effect(entry.state, r)
        if letter is None:
            return
        _log.warning("late_effect_found", trace_id=r.trace_id, node_id=r.node_id, attempt=r.attempt)
        self._parking.late(entry.p, letter, opened)

    def _hear(self, item: Item, entry: Entry, now: Now) -> None:
        if isinstance(item.what, Result) and item.what.outcome in _claims:
            node = entry.state.nodes.get(item.what.node_id)
            if node is not None:
                self.last_claim[node.spec.agent] = now.ms

    def _reject(self, trace_id: str, item: Item, why: Rejection, opened: Opened) -> None:
        if not isinstance(item.what, Wake):
            _rejected.labels(why.reason).inc()
            _log.debug("input_rejected", trace_id=trace_id, reason=why.reason, detail=why.detail)
        if isinstance(item.what, Decision) and why.reason in ("self-approval", "action-not-allowed"):
            opened.batch.refused.append((item.what.pause_id,))  # its pause stays open, for a better one
            _log.warning("decision_refused", trace_id=trace_id, pause_id=item.what.pause_id, reason=why.reason)
        if _foreign(item.what, why) and item.record is not None:
            text = f"Expected a dead letter of a node that exists, but: {why.reason}."
            opened.batch.quarantine.append(self._parking.unread(item.record, text))

    def _build(self, work: Work, opened: Opened) -> None:
        """Numbers the rows per partition and fills the batch."""
        b, own = opened.batch, self._own
        counts: dict[int, int] = {}
        last: dict[int, int] = {}
        dumps, stored, sendings = orjson.dumps, b.rows.append, opened.sendings
        now = iso(opened.now.ms)
        for entry, rows, messages, cause in opened.decided:
            p, born, trace_id = entry.p, entry.born, entry.state.trace_id
            for m in messages:
                sendings.append(self._publisher.message(p, m, now))
            told: list[tuple[int, str, bytes, str]] = []
            first = own.held[p].next_pseq + counts.get(p, 0)
            for pseq, row in enumerate(rows, first):
                seq, type_, body, meta, at_ms = row
                data = dumps(body)
                stored(
                    StoredRow(
                        born, trace_id, seq, p, pseq, type_, data, None if meta is None else dumps(meta), cause, at_ms
                    )
                )
                told.append((seq, type_, data, body["at"]))
                if type_ != EventType.NODE_STATE_CHANGED:
                    about(row, entry, b)
                elif body["from"] in LETTERED:
                    moved_on(row, entry, b)
            if rows:
                sendings += self._publisher.events(p, first, trace_id, told)
                counts[p] = counts.get(p, 0) + len(rows)
                last[id(entry)] = first + len(rows) - 1
        for entry in opened.touched.values():
            new = summary(entry)
            if new is not None:
                b.summaries.append(new)
        b.commands = [(n, last.get(id(e), 0)) for n, e in opened.commands]
        b.places = [(k, n) for k, n in sorted(opened.places.items()) if n]
        b.blobs.extend((mark, trace_id, "application/json", body) for trace_id, mark, body in work.blobs)
        b.quarantine.extend(self._parking.unread(r, why) for r, why in work.unread)
        opened.sendings.extend(self._publisher.quarantine_copy(r, why) for r, why in work.unread)
        touched = {p for p, _ in work.offsets} | set(counts) | set(work.partition_of.values())
        for p in sorted(touched):
            offsets = {topic: at for (q, topic), at in work.offsets.items() if q == p}
            b.positions.append(own.position(p, self._publisher.published(p), counts.get(p, 0), offsets))
        _inputs.observe(work.count)

    def _committed(self, opened: Opened) -> None:
        crashpoint("K4")
        self._own.committed(opened.batch.positions)
        for s in opened.batch.summaries:
            entry = opened.touched[s.trace_id]
            entry.stored_status, entry.stored_wake_ms = s.status, s.wake_ms
        for trace_id, entry in opened.touched.items():
            self._cache.put(trace_id, entry)
            if entry.state.ended:
                self._wakeups.forget(trace_id)
            else:
                self._wakeups.set(trace_id, entry.state.next_wake())
            self.snapshots.look(entry)
        self.places.committed(opened.touched, opened.room)
        self.ruling.note((entry.state, rows) for entry, rows, _, _ in opened.decided)
        for type_, count in Counter([r.type for r in opened.batch.rows]).items():
            _rows.labels(type_).inc(count)
        if opened.batch.dead_letters:
            crashpoint("K12")
        self._publisher.put(opened.sendings)
        self._cache.shrink()

    async def park(self, work: Work, trace_id: str, error: Exception) -> None:
        """Sets one workflow aside, with these inputs: they cannot be stored."""
        self._cache.drop(trace_id)
        await self._load(work)
        opened = Opened(Batch(self._tenant), Now(self._clock(), self.last_claim))
        entry = self._cache.get(trace_id)
        self._cache.drop(trace_id)
        if entry is None:
            state = WorkflowState(self._tenant, trace_id)
            entry = Entry(state, work.partition_of[trace_id], born_week(opened.now.ms))
        why = f"{type(error).__name__}: {error}"
        self._parking.set_aside(work.items[trace_id], trace_id, why, opened, entry, blank=True)
        opened.commands = [(i.n, None) for i in work.items[trace_id] if i.n is not None and isinstance(i.what, GiveUp)]
        self._build(Work(partition_of={trace_id: work.partition_of[trace_id]}), opened)
        await self._store.commit(opened.batch)
        self._committed(opened)

    async def state_of(self, trace_id: str) -> Entry | None:
        """The entry of a workflow, loaded where it must be."""
        entry = self._cache.get(trace_id)
        if entry is None:
            entry = (await self._loading.entries([trace_id])).get(trace_id)
            if entry is not None:
                self._cache.put(trace_id, entry)
        return entry

    def beat(self, hb: Heartbeat) -> Result | None:
        """Takes a heartbeat. Answers the `started` to feed in where the claim's own message has not come."""
        entry = self._cache.get(hb.trace_id)
        if entry is None:
            return None
        started = begun_by(entry.state, hb)
        heard(entry.state, hb, Now(self._clock(), self.last_claim))
        return started


def _foreign(what: Input | None, why: Rejection) -> bool:
    """A dead letter that nobody here can take up; one with an id is ours, and its workflow may end before it returns."""
    if not isinstance(what, DeadLetter):
        return False
    return why.reason in ("unknown-node", "unknown-workflow") or (why.reason == "ended" and what.dead_letter_id is None)
