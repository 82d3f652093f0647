"""Sends what was committed, in the order of the journal: the outbox half of the journal (DESIGN D5, D6).

The batch loop never waits for the bus. Everything here may be sent twice and nothing may be sent before it is committed.
Tasks go first and never wait for an event to be acknowledged: they are all that a workflow waits for. The events behind
them follow once they were tried, so that a row which counts as published has its tasks out, too. A task that the bus
refuses for good is skipped, and its attempt has failed (`unsent`); an event is never skipped.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any

import orjson
import structlog

from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import Envelope, ce_type, plain_headers, to_headers
from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_contracts.ids import attempt_ce_id, event_ce_id, keyed_partition, task_id, workflow_key
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, Failure, Outcome, Result, Task, TaskKind
from handrail_engine.outgoing import Dispatch
from handrail_engine.references import MISSING, PATH, dig, stored_at
from handrail_orchestrator.application.cutting import cut_down
from handrail_orchestrator.application.lane import Lane, Sending
from handrail_runtime.lifecycle import supervise
from handrail_runtime.memory import ran_out
from handrail_runtime.ports import Bus, Outgoing, Record, RecordRefused
from handrail_runtime.telemetry import gauge

_log = structlog.get_logger(__name__)
SOURCE = "/handrail/orchestrator"
CANNOT_BE_SENT = "task-too-large"
MOST_QUEUED = 50_000
"""Beyond this the queue is dropped and read again from the journal: memory stays bounded while the bus is away."""
NEWS_EVERY_S = 0.01
"""Events of a workflow under way keep this distance: three readers wake for each send, on the cores that its agents need."""
_AWAITED = frozenset(map(str, (*TERMINAL_EVENTS, EventType.WORKFLOW_PAUSED_HITL, EventType.HITL_RESOLVED)))

_behind = gauge("publish_queue", "Records that wait for the bus")
_REF = b'"$ref"'
_SOURCE = SOURCE.encode()
_TASK_TYPES = {kind: ce_type(f"task_{kind.value}").encode() for kind in TaskKind}


@lru_cache(maxsize=256)
def _type(event_type: str) -> bytes:
    return ce_type(event_type).encode()


class Publisher:
    """`put` what was committed; `run` sends it; `published(p)` says how far it got."""

    def __init__(
        self, bus: Bus, tenant: str, partitions: int, blobs: Callable[[str, list[str]], Awaitable[dict[str, bytes]]]
    ) -> None:
        """`blobs` answers what a workflow has stored under these digests, by digest; it raises NotNow while it cannot."""
        self._bus = bus
        self._tenant = tenant
        self._partitions = partitions
        self._blobs = blobs
        self._news = Lane(bus, None, self._acknowledged, every_s=NEWS_EVERY_S, cut=cut_down)
        self._tasks = Lane(bus, self._resolved, lambda _: None, self._news, refused=self._cannot_be_sent)
        self._unsent: list[Result] = []
        self._lanes = (self._tasks, self._news)
        self._published: dict[int, int] = {}
        self._stopping = asyncio.Event()
        self.overflowed: set[int] = set()
        _behind.set_function(lambda: self.queued)

    def event(self, p: int, pseq: int, trace_id: str, seq: int, type_: str, data: bytes, at: str) -> Sending:
        """The record of a journal row."""
        return self.events(p, pseq, trace_id, ((seq, type_, data, at),))[0]

    def events(self, p: int, first: int, trace_id: str, rows: Iterable[tuple[int, str, bytes, str]]) -> list[Sending]:
        """The records of rows (seq, type, data, at) of one workflow that follow each other, from pseq `first` on."""
        tenant, topic, made = self._tenant, topics.EVENTS, list[Sending]()
        key, subject = workflow_key(tenant, trace_id).encode(), trace_id.encode()
        for pseq, (seq, type_, data, at) in enumerate(rows, first):
            ce_id = event_ce_id(tenant, trace_id, seq).encode()
            headers = plain_headers(ce_id, _type(type_), _SOURCE, subject, at.encode())
            made.append(Sending(Outgoing(topic, key, data, headers, p), p, pseq, False, type_ in _AWAITED))
        return made

    def message(self, p: int, m: Dispatch | DeadLetter, at: str) -> Sending:
        """The record of a task or a dead letter."""
        if isinstance(m, DeadLetter):
            letter_id = m.dead_letter_id or f"{m.tenant}/{m.trace_id}/{m.node_id}"
            e = Envelope(letter_id, ce_type("dead_letter"), SOURCE, subject=m.trace_id, time=at)
            return Sending(
                Outgoing(topics.DEAD_LETTERS, workflow_key(m.tenant, m.trace_id).encode(), encode(m), to_headers(e), p),
                p,
            )
        ce_id = attempt_ce_id(m.effect_key, m.attempt, m.kind).encode()
        headers = plain_headers(ce_id, _TASK_TYPES[m.kind], _SOURCE, m.trace_id.encode(), at.encode())
        key = task_id(m.tenant, m.trace_id, m.node_id).encode()
        where = keyed_partition(key, self._partitions)
        return Sending(Outgoing(topics.task_topic(m.agent), key, _encoded(m), headers, where), p, 0, True)

    def quarantine_copy(self, r: Record, reason: str) -> Sending:
        """A copy of a record that could not be read, for whoever watches `handrail.quarantine`."""
        key = f"{r.topic}/{r.partition}/{r.offset}".encode()
        body = {
            "topic": r.topic,
            "partition": r.partition,
            "offset": r.offset,
            "reason": reason,
            "value_base64": base64.b64encode(r.value or b"").decode(),
        }
        e = Envelope(key.decode(), ce_type("quarantined"), SOURCE)
        return Sending(Outgoing(topics.QUARANTINE, key, orjson.dumps(body), to_headers(e)), r.partition)

    def put(self, sendings: Iterable[Sending], *, catching_up: bool = False) -> None:
        """Queues committed records. Beyond MOST_QUEUED the partitions concerned are marked `overflowed` and dropped: their
        owner reads them again from the journal, `catching_up`, before anything newer of them is queued."""
        if self.overflowed and not catching_up:
            sendings = [s for s in sendings if s.p not in self.overflowed]
        sendings = list(sendings)
        overtakes = not self._tasks.queue and not any(s.task for s in sendings)
        (self._news if overtakes else self._tasks).put(sendings)
        if self.queued > MOST_QUEUED and not catching_up:
            _log.warning("publish_queue_overflowed", queued=self.queued)
            for lane in self._lanes:
                self.overflowed.update(s.p for s in lane.queue)
                lane.keep(lambda _: False)

    @property
    def queued(self) -> int:
        """How many records wait."""
        return len(self._tasks.queue) + len(self._news.queue)

    def forget(self, lost: Iterable[int]) -> None:
        """Partitions that are not ours any more: their records are the next owner's."""
        gone = set(lost)
        for lane in self._lanes:
            lane.keep(lambda s: s.p not in gone)
        for p in gone:
            self._published.pop(p, None)
        self.overflowed -= gone

    def published(self, p: int) -> int:
        """The highest pseq of the partition that is acknowledged, with all before it; 0 when nothing is known."""
        return self._published.get(p, 0)

    def start_at(self, p: int, pseq: int) -> None:
        """What the partition's row says when we take it."""
        self._published[p] = pseq

    async def flush(self, timeout_s: float) -> bool:
        """Waits until everything queued is acknowledged; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                for lane in self._lanes:  # in this order: the first puts into the second
                    await lane.emptied()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Sends until `stop`. A failed send is repeated from the first record that was not acknowledged."""
        await supervise(self._first(), self._news.run(), until=self._stopping)

    async def _first(self) -> None:
        await self._tasks.run()
        self._news.stop()

    def _acknowledged(self, s: Sending) -> None:
        """Moves on by one row, never over a row that nobody sent: that one is read again from the journal."""
        upto = self._published.get(s.p)
        if not s.pseq or upto is None:
            return
        if s.pseq == upto + 1:
            self._published[s.p] = s.pseq
        elif s.pseq > upto and s.p not in self.overflowed:
            _log.error("rows_missing_between", partition=s.p, published=upto, sent=s.pseq)
            self.overflowed.add(s.p)

    async def _resolved(self, s: Sending) -> Outgoing:
        """A task whose inputs hold references to payloads of its own workflow gets the payloads themselves. Raises NotNow, and
        RecordRefused where what is stored cannot be put in."""
        value = s.message.value
        if value is None or _REF not in value:
            return s.message
        task = orjson.loads(value)
        digests = list(_digests(task))
        if not digests:
            return s.message
        bodies = await self._blobs(task["trace_id"], digests)
        try:
            found = {mark: orjson.loads(body) for mark, body in bodies.items()}
            full = orjson.dumps(_filled(task, found))
        except Exception as e:
            if ran_out(e):
                raise
            raise RecordRefused(f"Expected stored payloads that fit into a task, but: {type(e).__name__}: {e}") from e
        return Outgoing(s.message.topic, s.message.key, full, s.message.headers, s.message.partition)

    def _cannot_be_sent(self, s: Sending, why: RecordRefused) -> None:
        """No agent will ever see this task, so the attempt has failed, and nothing has happened."""
        if not s.task or s.message.value is None:
            return
        task = orjson.loads(s.message.value)
        if (kind := TaskKind(task.get("kind", TaskKind.EXECUTE))) is TaskKind.CANCEL:
            return
        size = len(s.message.value)
        message = (
            f"The task could not be handed to an agent: it takes {size} bytes or more, and the bus refused it. {why}"
        )
        error = Failure(code=CANNOT_BE_SENT, message=message, retryable=False)
        known = {k: task[k] for k in ("trace_id", "node_id", "attempt", "effect_key")}
        self._unsent.append(Result(kind=kind, tenant=self._tenant, outcome=Outcome.FAILED, error=error, **known))

    def unsent(self) -> list[Result]:
        """The ends of attempts whose tasks the bus refused for good, once."""
        unsent, self._unsent = self._unsent, []
        return unsent

    async def stop(self) -> None:
        """Lets `run` end once nothing waits, or after the next failure."""
        self._stopping.set()
        self._tasks.stop()

    async def close(self) -> None:
        """Lets the producers go."""
        for lane in self._lanes:
            await lane.close()


_USUAL = Task.model_fields
_TENANT, _TO_CLOSE_S, _LEASE_S = (_USUAL[name].default for name in ("tenant", "start_to_close_s", "lease_s"))


def _encoded(d: Dispatch) -> bytes:
    """`encode` of the task, without making it: a third of the time."""
    said: dict[str, Any] = {}
    if d.kind is not TaskKind.EXECUTE:
        said["kind"] = d.kind
    if d.tenant != _TENANT:
        said["tenant"] = d.tenant
    said["trace_id"], said["node_id"], said["agent"], said["action"] = d.trace_id, d.node_id, d.agent, d.action
    said["attempt"], said["max_attempts"], said["effect_key"] = d.attempt, d.max_attempts, d.effect_key
    if d.effect_class is not EffectClass.PURE:
        said["effect_class"] = d.effect_class
    if d.inputs:
        said["inputs"] = d.inputs
    if d.output is not None:
        said["output"] = d.output
    if d.do_key is not None:
        said["do_key"] = d.do_key
    said["start_before"] = d.start_before
    if d.start_to_close_s != _TO_CLOSE_S:
        said["start_to_close_s"] = d.start_to_close_s
    if d.lease_s != _LEASE_S:
        said["lease_s"] = d.lease_s
    if d.conversation is not None:
        said["conversation"] = d.conversation
    if d.approved is not None:
        said["approved"] = d.approved
    if d.approval is not None:
        said["approval"] = d.approval
    return orjson.dumps(said)


def _digests(value: Any) -> Iterable[str]:
    at = stored_at(value)
    if at is not None:
        yield at[1]
    elif isinstance(value, dict):
        for v in value.values():
            yield from _digests(v)
    elif isinstance(value, list):
        for v in value:
            yield from _digests(v)


def _filled(value: Any, found: dict[str, Any]) -> Any:
    at = stored_at(value)
    if at is not None:
        return _part(found[at[1]], value) if at[1] in found else value
    if isinstance(value, dict):
        return {k: _filled(v, found) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, found) for v in value]
    return value


def _part(body: Any, ref: dict[str, Any]) -> Any:
    """What a reference means: the stored value, or the part of it that it names."""
    part = dig(body, tuple(ref.get(PATH, ())))
    return ref.get("default") if part is MISSING else part
