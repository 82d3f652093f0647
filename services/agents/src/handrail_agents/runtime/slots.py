"""Bounded slots in which attempts run: claim, do, close in the ledger, answer. Nothing raised by an agent leaves here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.attempt import Attempt, Stage, again, fitting, iso_times, plain_result, raised, succeeded
from handrail_agents.runtime.claim import TAKEN, Ledger, LedgerClosed, Row, State
from handrail_agents.runtime.intake import Order, read
from handrail_agents.runtime.timers import Timers
from handrail_contracts.codec import Undecodable
from handrail_contracts.model import Json, iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import Failure, Outcome, Result, Task, TaskKind
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.ports import Record
from handrail_runtime.telemetry import gauge
from handrail_sdk.agent import Agent
from handrail_sdk.failures import NOT_FOUND, Garbage
from handrail_sdk.task import TaskDefinition

_log = structlog.get_logger(__name__)
_busy = gauge("agents_slots_busy", "Attempts that have a slot")
_NOTHING = {"nothing_to_undo": True}


class Slots:
    """`offer` takes records, `drain` ends what runs. At most `slots` attempts at once, `max_in_flight` of one agent."""

    def __init__(
        self,
        agents: Sequence[Agent],
        ledger: Ledger,
        answers: Answers,
        now_ms: Callable[[], int],
        *,
        slots: int,
        short_s: float,
    ) -> None:
        self._tasks: Mapping[tuple[str, str], TaskDefinition[Any]] = {
            (agent.name, action): task for agent in agents for action, task in agent.tasks.items()
        }
        self._ledger, self._answers, self._now_ms = ledger, answers, now_ms
        self._free = asyncio.Semaphore(slots)
        self._limits = {a.name: asyncio.Semaphore(a.max_in_flight) for a in agents if a.max_in_flight is not None}
        self._here: dict[tuple[str, int], Attempt] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self.timers = Timers(short_s, self._started, self._beat)

    async def offer(self, record: Record) -> None:
        """Returns when the record has a slot (or needs none): from then on it is ours, and may be acknowledged."""
        try:
            order = read(record)
        except Undecodable as e:
            _log.warning(
                "task_quarantined",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=e.reason,
            )
            self._answers.quarantine(record, e.reason)
            return
        task = order.task
        definition = self._tasks.get((task.agent, task.action))
        if definition is None:
            failure = Failure(
                code="unknown-action",
                message=f"Expected an action of {task.agent}, but it has no {task.action}.",
                retryable=False,
            )
            self._answers.result(
                plain_result(task, Outcome.FAILED, error=failure, worker=self._answers.worker), self._at()
            )
            return
        await self._free.acquire()
        if task.kind is TaskKind.CANCEL:
            self._spawn(self._cancel(order))
            return
        key = (task.effect_key, task.attempt)
        if key in self._here:
            self._free.release()  # delivered twice: it is being worked on
            return
        attempt = Attempt(order, definition, lambda: None, self._progress)
        self._here[key] = attempt
        attempt.runner = self._spawn(self._run(attempt))

    async def drain(self, timeout_s: float) -> None:
        """Lets what runs finish; what takes longer is interrupted and answers that nobody knows."""
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=timeout_s)
        for a in list(self._here.values()):
            a.interrupt("worker-stopped")
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=2.0)
        for job in list(self._jobs):
            job.cancel()

    @property
    def busy(self) -> int:
        """Attempts that have a slot now."""
        return len(self._jobs)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        _busy.set(len(self._jobs))
        job.add_done_callback(self._over)
        return job

    def _over(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        self._free.release()
        _busy.set(len(self._jobs))
        if not job.cancelled() and (error := job.exception()) is not None:
            _log.error("attempt_runner_failed", kind=type(error).__name__, exc_info=error)

    async def _run(self, a: Attempt) -> None:
        limit = self._limits.get(a.task.agent)
        try:
            if limit is None:
                await self._attempt(a)
            else:
                async with limit:
                    await self._attempt(a)
        except LedgerClosed:
            _log.info("attempt_left_to_its_lease", trace_id=a.task.trace_id, node_id=a.task.node_id)
        finally:
            del self._here[a.task.effect_key, a.task.attempt]

    async def _attempt(self, a: Attempt) -> None:
        task = a.task
        a.stage = Stage.CLAIMING
        if a.ledgered:
            claim = await self._ledger.claim(task.effect_key, task.attempt, a.order.start_before_ms)
            if claim is not TAKEN:
                self._not_ours(task, claim if isinstance(claim, Row) else None)
                return
        elif self._now_ms() >= a.order.start_before_ms:
            return
        if a.unwanted:
            await self._unwanted(a)
            return
        crashpoint("K16")
        a.stage, a.started_ms, a.started_at = Stage.RUNNING, self._now_ms(), time.monotonic()
        self.timers.watch(a)
        result = await self._outcome(a)
        a.stage = Stage.CLOSING
        if result is None:
            return
        result, encoded = fitting(a, result)
        if a.ledgered:
            await self._close(a, result, encoded)
        crashpoint("K18")
        self._answers.result(result, self._at())

    async def _outcome(self, a: Attempt) -> Result | None:
        """What the function's end means. None: it answers with nothing that can be read."""
        worker = self._answers.worker
        try:
            output = await self._call(a)
        except Garbage:
            a.silent = True
            self._answers.garbage(a.task, self._at())
            return None
        except asyncio.CancelledError as e:
            if a.interrupted is None:
                raise  # the process is going down, not the attempt
            return raised(a, e, worker=worker, **iso_times(a.started_ms, self._now_ms()))
        except Exception as e:  # noqa: BLE001  whatever an agent raises is an answer, never the end of the runtime
            return raised(a, e, worker=worker, **iso_times(a.started_ms, self._now_ms()))
        return succeeded(a.task, output, worker=worker, **iso_times(a.started_ms, self._now_ms()))

    async def _call(self, a: Attempt) -> Json:
        task, context = a.task, a.make_context()
        crashpoint("K17")
        match task.kind:
            case TaskKind.LOOK_UP:
                return await a.definition.look_up(task.inputs, context)
            case TaskKind.COMPENSATE:
                return await self._undo(a, context)
            case _:
                return await a.definition.run(task.inputs, context)

    async def _undo(self, a: Attempt, context: Any) -> Json:
        """First nothing may start under the do's key any more; then its effect is undone, if there can be one."""
        task = a.task
        if task.do_key is None:
            return await a.definition.undo(task.inputs, task.output, context)
        row = await self._ledger.bury(task.do_key, task.attempt, running_too=True)
        output = task.output
        if output is None and row.state is State.DONE and row.result is not None:
            output = again(row.result, task).output
        if output is None and not row.ran:
            return _NOTHING
        return await a.definition.undo(task.inputs, output, context)

    async def _close(self, a: Attempt, result: Result, encoded: bytes) -> None:
        key, attempt = a.task.effect_key, a.task.attempt
        match result.outcome:
            case Outcome.OK:
                await self._ledger.done(key, attempt, encoded)
            case Outcome.FAILED:
                looked = a.task.kind is TaskKind.LOOK_UP
                certain = looked and result.error is not None and result.error.code == NOT_FOUND
                if certain or not looked:
                    await self._ledger.failed(key, attempt, certain=certain)
            case Outcome.ESCALATED | Outcome.PROPOSED | Outcome.CANCELLED:
                await self._ledger.failed(key, attempt)
            case _:
                pass  # doubt stays what it is: INTENT

    def _not_ours(self, task: Task, row: Row | None) -> None:
        """The ledger let somebody (or nobody) else have it."""
        if row is None:
            return  # too late to start: the owner sends it again if it still wants it
        worker = self._answers.worker
        match row.state:
            case State.DONE if row.result is not None:
                self._answers.result(again(row.result, task), self._at())
            case State.TOMBSTONE:
                self._answers.result(plain_result(task, Outcome.CANCELLED, worker=worker), self._at())
            case State.INTENT if row.attempt == task.attempt:
                started = plain_result(task, Outcome.STARTED, worker=row.worker, started_at=iso(row.claimed_ms))
                self._answers.result(started, self._at())
            case State.FAILED if row.attempt == task.attempt:
                failure = Failure(code="answer-lost", message="The attempt failed; what it said was lost on the way.")
                self._answers.result(plain_result(task, Outcome.FAILED, error=failure, worker=worker), self._at())
            case _:
                pass  # a newer attempt has it

    async def _cancel(self, order: Order) -> None:
        task = order.task
        here = self._here.get((task.effect_key, task.attempt))
        if here is not None:
            here.unwanted = True
            here.interrupt("cancelled")
            return
        if task.effect_class is EffectClass.PURE:
            self._answers.result(plain_result(task, Outcome.CANCELLED, worker=self._answers.worker), self._at())
            return
        try:
            row = await self._ledger.bury(task.effect_key, task.attempt, running_too=False)
        except LedgerClosed:
            return
        if row.state is State.DONE and row.result is not None:
            self._answers.result(again(row.result, task), self._at())
        elif row.state is State.TOMBSTONE and not row.ran:
            self._answers.result(plain_result(task, Outcome.CANCELLED, worker=self._answers.worker), self._at())

    async def _unwanted(self, a: Attempt) -> None:
        """Cancelled between claim and start: it did nothing, and shall not."""
        if a.ledgered:
            await self._ledger.failed(a.task.effect_key, a.task.attempt)
            await self._ledger.bury(a.task.effect_key, a.task.attempt, running_too=False)
        self._answers.result(plain_result(a.task, Outcome.CANCELLED, worker=self._answers.worker), self._at())

    def _started(self, a: Attempt) -> None:
        a.told = True
        if not a.silent:
            r = plain_result(a.task, Outcome.STARTED, worker=self._answers.worker, started_at=iso(a.started_ms))
            self._answers.result(r, self._at())

    def _beat(self, a: Attempt) -> None:
        self._answers.heartbeat(a.task, self._at())

    def _progress(self, task: Task, percent: float | None, message: str | None) -> None:
        self._answers.progress(task, percent, message, self._now_ms())

    def _at(self) -> str:
        return iso(self._now_ms())
