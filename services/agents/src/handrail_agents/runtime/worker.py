"""What happens to a task record: read, claimed, run, closed, answered. DESIGN section 8."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import structlog

from handrail_agents.runtime import attempt as words
from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.attempt import Attempt, Stage
from handrail_agents.runtime.claim import Ledger, LedgerClosed, Row, State
from handrail_agents.runtime.intake import read
from handrail_agents.runtime.slots import Slots
from handrail_agents.runtime.timers import Timers
from handrail_contracts.codec import Undecodable, encode
from handrail_contracts.model import Json, iso
from handrail_contracts.tasks import Failure, Outcome, Result, Task, TaskKind
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.ports import Record
from handrail_sdk.agent import Agent
from handrail_sdk.failures import NOT_FOUND, Garbage, Silence
from handrail_sdk.task import TaskDefinition

_log = structlog.get_logger(__name__)
_NOTHING_TO_UNDO = {"nothing_to_undo": True}


class Clock(Protocol):
    """The time by the database's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        ...


class Quarantine(Protocol):
    """Where people look for records that could not be read."""

    async def put(self, record: Record, reason: str) -> None:
        """Stores the record once. Never raises: a copy is on its way to `handrail.quarantine` anyhow."""
        ...


class Worker:
    """`offer` takes a record; everything else follows by itself, and nothing that a task does comes out of here.

    `slots` bounds the attempts at once, `short_s` is how long an attempt may take before it says that it started.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        *,
        ledger: Ledger,
        answers: Answers,
        clock: Clock,
        quarantine: Quarantine,
        slots: int,
        short_s: float,
    ) -> None:
        self._definitions: dict[tuple[str, str], TaskDefinition[Any]] = {
            (agent.name, action): task for agent in agents for action, task in agent.tasks.items()
        }
        self._ledger, self._answers, self._clock, self._quarantine = ledger, answers, clock, quarantine
        self.slots = Slots(agents, slots, self._work)
        self.timers = Timers(short_s, self._say_started, self._beat)
        self._chores: set[asyncio.Task[None]] = set()

    def offer(self, record: Record, taken: Callable[[], None]) -> None:
        """Takes a record; never raises and never waits. `taken` is called once the record may be acknowledged: the attempt
        has a slot, or there is nothing to run."""
        try:
            order = read(record)
        except Undecodable as e:
            _log.warning("task_quarantined", topic=record.topic, offset=record.offset, reason=e.reason)
            self._answers.quarantine(record, e.reason)
            self._chore(self._quarantine.put(record, e.reason))
            taken()
            return
        task = order.task
        if task.kind is TaskKind.CANCEL:
            self._chore(self._cancel(task))
            taken()
            return
        if (here := self.slots.get(task.effect_key, task.attempt)) is not None:
            if here.stage is Stage.RUNNING:
                self._say_started(here)
            taken()
            return
        definition = self._definitions.get((task.agent, task.action))
        if definition is None:
            code = Failure(code="unknown-action", message=f"No worker here knows {task.agent}.{task.action}.")
            self._say(task, Outcome.FAILED, error=code)
            taken()
            return
        self.slots.put(Attempt(task, order.start_before_ms, definition, taken, self._say_progress))

    @property
    def room(self) -> int:
        """How many records may be offered now."""
        return self.slots.room

    async def wait_for_room(self) -> None:
        """Returns when there is room."""
        await self.slots.wait_for_room()

    async def drain(self, timeout_s: float) -> None:
        """Gives back what waits, lets what runs finish, and stops it midway after `timeout_s`; all of it is answered."""
        self.slots.withdraw_all()
        if await self.slots.wait_until_empty(timeout_s):
            return
        _log.warning("drain_timed_out", attempts=self.slots.running)
        for a in self.slots:
            a.interrupt("worker-stopped")
        await self.slots.wait_until_empty(1.0)

    async def close(self) -> None:
        """Ends what is still there without an answer. Idempotent."""
        tasks = [*self._chores, *(a.runner for a in self.slots if a.runner is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one attempt

    async def _work(self, a: Attempt) -> None:
        try:
            if a.ledgered:
                if await self._claimed(a):
                    await self._run(a)
            elif self._clock.now_ms() < a.start_before_ms:
                await self._run(a)
        except LedgerClosed:
            _log.info("attempt_left", trace_id=a.task.trace_id, node_id=a.task.node_id, attempt=a.task.attempt)
        except Exception as e:  # noqa: BLE001  # the lease covers this attempt; the others go on
            _log.error("attempt_lost", trace_id=a.task.trace_id, node_id=a.task.node_id, exc_info=e)

    async def _claimed(self, a: Attempt) -> bool:
        task = a.task
        claim = await self._ledger.claim(task.effect_key, task.attempt, a.start_before_ms)
        if claim is True:
            return True
        if a.interrupted is not None:
            await self._cancel_unstarted(task)
        elif isinstance(claim, Row):
            self._answer_claimed(task, claim)
        return False

    def _answer_claimed(self, task: Task, row: Row) -> None:
        """What the ledger says instead of letting it run."""
        if row.result is not None and (row.state is State.DONE or row.attempt == task.attempt):
            self._answer_stored(task, row.result)
        elif row.state is State.TOMBSTONE:
            self._say(task, Outcome.CANCELLED)
        elif row.state is State.INTENT and row.attempt == task.attempt:
            self._say(task, Outcome.STARTED, worker=row.worker, started_at=iso(row.claimed_ms))

    async def _run(self, a: Attempt) -> None:
        if a.interrupted is not None:
            await self._give_up(a)
            return
        crashpoint("K16")
        a.started_ms, a.started_at = self._clock.now_ms(), time.monotonic()
        try:
            if a.task.kind is TaskKind.EXECUTE:
                function = a.definition.run(a.task.inputs, a.make_context() if a.definition.wants_context else None)
            else:
                function = await self._undo_or_look_up(a)
            a.stage = Stage.RUNNING
            self.timers.watch(a)
            output = await function
        except (Garbage, Silence) as e:
            a.stage = Stage.CLOSING
            if not a.told:
                self._say_started(a)  # claimed, so that its lease runs out; unclaimed it would be sent again for ever
            if isinstance(e, Garbage):
                self._answers.garbage(a.task, iso(self._clock.now_ms()))
            return
        except BaseException as e:  # whatever a task raises is an answer
            if isinstance(e, LedgerClosed) or (isinstance(e, asyncio.CancelledError) and _abandoned(a)):
                raise
            a.stage = Stage.CLOSING
            if isinstance(e, asyncio.CancelledError) and a.runner is not None:
                a.runner.uncancel()
            finished_at = iso(self._clock.now_ms())
            r, value = words.fitting(a, words.raised(a, e, **self._fields(a, finished_at)))
            missing = a.task.kind is TaskKind.LOOK_UP and r.error is not None and r.error.code == NOT_FOUND
            await self._close(a, r.outcome, value, finished_at, missing=missing)
        else:
            a.stage = Stage.CLOSING
            finished_at = iso(self._clock.now_ms())
            await self._close(a, *self._returned(a, output, finished_at), finished_at)

    async def _undo_or_look_up(self, a: Attempt) -> Coroutine[Any, Any, Json]:
        task, definition, ctx = a.task, a.definition, a.make_context()
        if task.kind is TaskKind.COMPENSATE:
            return await self._undoing(a)
        return definition.look_up(task.inputs, ctx)

    async def _undoing(self, a: Attempt) -> Coroutine[Any, Any, Json]:
        """The undo, once nothing can start any more under the key of what it undoes."""
        task, ctx = a.task, a.context
        assert ctx is not None
        output = task.output
        if task.do_key is not None:
            for late in self.slots.of(task.do_key):
                self._stop(late)
            row = await self._ledger.bury(task.do_key, task.attempt, running_too=True)
            if not row.ran and output is None:
                return _nothing_to_undo()
            if output is None and row.state is State.DONE and row.result is not None:
                output = words.again(row.result, task).output
        if a.definition.compensatable:
            return a.definition.undo(task.inputs, output, ctx)
        return a.definition.run(task.inputs, ctx)  # an action of its own that the plan names as the undo

    def _returned(self, a: Attempt, output: Json, finished_at: str) -> tuple[Outcome, bytes]:
        """The answer of a function that gave `output`."""
        ctx = a.context
        if ctx is None or not (ctx.added or ctx.usage):
            value = words.plainly(a.task, output, self._answers.worker, iso(a.started_ms), finished_at)
            if value is not None:
                return Outcome.OK, value
        added = ctx.added if ctx is not None and a.task.kind is not TaskKind.COMPENSATE else []
        r, value = words.fitting(a, words.succeeded(a.task, output, added, **self._fields(a, finished_at)))
        return r.outcome, value

    async def _close(
        self, a: Attempt, outcome: Outcome, value: bytes, finished_at: str, *, missing: bool = False
    ) -> None:
        """Writes down how it ended, and only then says so. `missing`: a look-up found nothing."""
        task = a.task
        crashpoint("K17")
        if a.ledgered:
            if outcome is Outcome.OK:
                await self._ledger.done(task.effect_key, task.attempt, value)
            elif outcome is not Outcome.IN_DOUBT:
                await self._ledger.failed(task.effect_key, task.attempt, value, certain=missing)
        crashpoint("K18")
        self._answers.result(task, outcome, value, finished_at)

    async def _give_up(self, a: Attempt) -> None:
        """A claimed attempt that was cancelled before its function began: provably nothing happened."""
        task = a.task
        if a.ledgered:
            await self._ledger.failed(task.effect_key, task.attempt, None)
            await self._ledger.bury(task.effect_key, task.attempt, running_too=True)
        self._say(task, Outcome.CANCELLED)

    # ---- cancels

    async def _cancel(self, task: Task) -> None:
        here = self.slots.of(task.effect_key)
        busy = [a for a in here if not self._stop(a)]
        if any(a.task.attempt == task.attempt for a in busy):
            return  # it answers for itself
        try:
            await self._cancel_unstarted(task)
        except LedgerClosed:
            _log.info("cancel_left", trace_id=task.trace_id, node_id=task.node_id, attempt=task.attempt)

    def _stop(self, a: Attempt) -> bool:
        """Interrupts an attempt of this process. True when it only waited for a slot and is gone."""
        if a.stage is Stage.WAITING:
            self.slots.withdraw(a)
            a.taken()
            return True
        if a.stage is Stage.CLAIMING:
            a.interrupted = a.interrupted or "cancelled"
        a.interrupt("cancelled")
        return False

    async def _cancel_unstarted(self, task: Task) -> None:
        row = await self._ledger.bury(task.effect_key, task.attempt, running_too=False)
        if row.state is State.DONE and row.result is not None:
            self._answer_stored(task, row.result)
        elif row.state is State.TOMBSTONE and not row.ran:
            self._say(task, Outcome.CANCELLED)
        elif row.state is State.INTENT and row.attempt == task.attempt:
            # Whoever holds it was told too, or is gone. Its own word may be lost: what was begun must not pass for unbegun.
            self._answer_claimed(task, row)

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    # ---- words

    def _fields(self, a: Attempt, finished_at: str) -> dict[str, Any]:
        times = {"started_at": iso(a.started_ms), "finished_at": finished_at}
        spent = {"usage": a.context.usage} if a.context is not None and a.context.usage else {}
        return {"worker": self._answers.worker, **spent, **times}

    def _say(self, task: Task, outcome: Outcome, **fields: Any) -> None:
        self._answer(task, words.plain_result(task, outcome, **{"worker": self._answers.worker, **fields}))

    def _answer(self, task: Task, r: Result) -> None:
        self._answers.result(task, r.outcome, encode(r), r.finished_at or iso(self._clock.now_ms()))

    def _answer_stored(self, task: Task, stored: bytes) -> None:
        try:
            self._answer(task, words.again(stored, task))
        except ValueError:
            _log.error("stored_result_unreadable", effect_key=task.effect_key)

    def _say_started(self, a: Attempt) -> None:
        a.told = True
        self._say(a.task, Outcome.STARTED, started_at=iso(a.started_ms))

    def _beat(self, a: Attempt) -> None:
        self._answers.heartbeat(a.task, iso(self._clock.now_ms()))

    def _say_progress(self, task: Task, percent: float | None, message: str | None) -> None:
        self._answers.progress(task, percent, message, self._clock.now_ms())


def _abandoned(a: Attempt) -> bool:
    """Whether the runner itself is being cancelled. A function may raise CancelledError of its own: that is doubt."""
    return a.interrupted is None and a.runner is not None and a.runner.cancelling() > 0


async def _nothing_to_undo() -> Json:
    return _NOTHING_TO_UNDO
