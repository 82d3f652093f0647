"""One attempt in this process: what was asked, how far it is, and how its end is put into words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from pydantic_core import ValidationError, to_json

from handrail_contracts.codec import encode
from handrail_contracts.model import Json
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import MAX_RESULT_BYTES, Failure, Outcome, Result, Task, TaskKind
from handrail_sdk.context import Context
from handrail_sdk.failures import INVALID_RESULT, SECOND_PROPOSAL, Escalated, Fail, Proposed, first_fault
from handrail_sdk.shortened import shortened
from handrail_sdk.task import TaskDefinition

PLANNER = ("planner", "plan")
_MOST_MESSAGE = 500
_DEFAULT_TENANT = Result.model_fields["tenant"].default


class Stage(StrEnum):
    """Where an attempt stands. Only a RUNNING one can be interrupted."""

    WAITING = "waiting"
    CLAIMING = "claiming"
    RUNNING = "running"
    CLOSING = "closing"


Said = Callable[[Task, float | None, str | None], None]


@dataclass(slots=True, eq=False)
class Attempt:
    """`start_before_ms` bounds its start (milliseconds since 1970 UTC). `taken` is called once, when the attempt has a slot;
    `said` takes its progress. `interrupted` is why its function was cancelled, `told` whether `started` was sent,
    `started_at` monotonic seconds."""

    task: Task
    start_before_ms: int
    definition: TaskDefinition[Any]
    taken: Callable[[], None]
    said: Said
    stage: Stage = Stage.WAITING
    runner: asyncio.Task[None] | None = None
    context: Context | None = None
    started_ms: int = 0
    started_at: float = 0.0
    told: bool = False
    silent: bool = False
    interrupted: str | None = None

    @property
    def ledgered(self) -> bool:
        """Whether the ledger guards it: everything but what has no effect."""
        return self.task.effect_class is not EffectClass.PURE

    def make_context(self) -> Context:
        """What the function gets."""
        t = self.task
        self.context = Context(
            tenant=t.tenant,
            trace_id=t.trace_id,
            node_id=t.node_id,
            agent=t.agent,
            action=t.action,
            attempt=t.attempt,
            max_attempts=t.max_attempts,
            effect_key=t.effect_key,
            do_key=t.do_key,
            conversation=t.conversation,
            approved=t.approved,
            approval=t.approval,
            log=structlog.get_logger(
                "handrail.agent", agent=t.agent, trace_id=t.trace_id, node_id=t.node_id, attempt=t.attempt
            ),
            on_progress=self._progress,
            on_silence=self._fall_silent,
        )
        return self.context

    def interrupt(self, why: str) -> None:
        """Cancels the function if it runs. The first reason counts. Idempotent."""
        if self.interrupted is None and self.stage is Stage.RUNNING and self.runner is not None:
            self.interrupted = why
            if self.context is not None:
                self.context.cancelled.set()
            self.runner.cancel()

    def let_go(self) -> None:
        """It is over: drops what refers back to it, so that its memory is free at once. Left in a circle it waits for the
        garbage collector, which took a fifth of a pure attempt's CPU."""
        self.runner = self.context = None

    def _progress(self, percent: float | None, message: str | None) -> None:
        if self.stage is Stage.RUNNING:
            self.said(self.task, percent, message)

    def _fall_silent(self) -> None:
        self.silent = True


def plain_result(task: Task, outcome: Outcome, **fields: Any) -> Result:
    """An answer about `task`."""
    return Result(
        kind=task.kind.answered,
        tenant=task.tenant,
        trace_id=task.trace_id,
        node_id=task.node_id,
        attempt=task.attempt,
        effect_key=task.effect_key,
        outcome=outcome,
        **fields,
    )


def plainly(task: Task, output: Json, worker: str, started_at: str, finished_at: str) -> bytes | None:
    """`encode(succeeded(…))` of an answer with nothing but an output, without the message that is thrown away: a third of
    the time. None where it takes more than that, or does not fit into a record."""
    if task.agent == PLANNER[0]:
        return None
    said: dict[str, Any] = {}
    if (kind := task.kind.answered) is not TaskKind.EXECUTE:
        said["kind"] = kind
    if task.tenant != _DEFAULT_TENANT:
        said["tenant"] = task.tenant
    said["trace_id"], said["node_id"] = task.trace_id, task.node_id
    said["attempt"], said["effect_key"], said["outcome"] = task.attempt, task.effect_key, "ok"
    if output is not None:
        said["output"] = output
    said["worker"], said["started_at"], said["finished_at"] = worker, started_at, finished_at
    try:
        value = to_json(said, inf_nan_mode="null")
    except ValueError:
        return None
    return value if len(value) <= MAX_RESULT_BYTES else None


def succeeded(task: Task, output: Json, added: Sequence[dict[str, Any]] = (), **fields: Any) -> Result:
    """The answer of a function that returned, with the steps that it added. What the planner agent gives is a plan: its nodes
    stand apart."""
    nodes: Any = list(added) or None
    if (task.agent, task.action) == PLANNER and task.kind is TaskKind.EXECUTE and isinstance(output, dict):
        nodes = output.get("nodes")
    return plain_result(task, Outcome.OK, output=output, nodes=nodes if isinstance(nodes, list) else None, **fields)


def raised(a: Attempt, error: BaseException, **fields: Any) -> Result:
    """The answer of a function that raised: definite for Fail, a person's turn for the two others, else doubt. An undo has no turn
    to give: one that asks for a person has failed, and that is what a person is asked about."""
    task = a.task
    match error:
        case Fail(code=code) if code in (INVALID_RESULT, SECOND_PROPOSAL) and a.ledgered:
            # It returned, or did what was approved, so its effect has probably happened: no fault after that undoes it.
            return plain_result(task, Outcome.IN_DOUBT, error=error.failure(), **fields)
        case Fail():
            return plain_result(task, Outcome.FAILED, error=error.failure(), **fields)
        case Escalated() if task.kind is TaskKind.COMPENSATE:
            e = error.escalation
            shown = {k: v for k, v in (("summary", e.summary), ("metadata", e.metadata)) if v}
            told = Failure(code="escalated", message=e.reason, evidence=shown or None, retryable=False)
            return plain_result(task, Outcome.FAILED, error=told, **fields)
        case Proposed() if task.kind is TaskKind.COMPENSATE:
            text = f"Expected an undo to act, or to fail, but it proposes {error.proposed.action}: an undo cannot be asked about first."
            return plain_result(
                task, Outcome.FAILED, error=Failure(code="proposed", message=text, retryable=False), **fields
            )
        case Escalated():
            return plain_result(task, Outcome.ESCALATED, escalation=error.escalation, **fields)
        case Proposed():
            return plain_result(task, Outcome.PROPOSED, proposed=error.proposed, **fields)
        case asyncio.CancelledError():
            code = a.interrupted or "CancelledError"
            if code == "cancelled" and not a.ledgered:
                return plain_result(task, Outcome.CANCELLED, **fields)
            failure = Failure(code=code, message=_WHY.get(code, "The attempt was stopped midway."))
        case _:
            failure = Failure(code=type(error).__name__[:64], message=_short(error))
    return plain_result(task, Outcome.IN_DOUBT, error=failure, **fields)


def fitting(a: Attempt, r: Result) -> tuple[Result, bytes]:
    """The answer and its bytes; in place of one that does not fit into a record, or is no JSON, one that says so.

    That the result is too large does not undo the effect: only a pure task's attempt then ends as a definite failure. Who asks for
    a person gets one: of a conversation that does not fit the newest lines do.
    """
    if r.escalation is not None and not _fits(r):
        r = r.model_copy(update={"escalation": shortened(r.escalation)})
    try:
        value = encode(r)
        if len(value) <= MAX_RESULT_BYTES:
            return r, value
        code, text = (
            "result-too-large",
            f"Expected a result of at most {MAX_RESULT_BYTES} bytes, but it has {len(value)}.",
        )
    except ValueError:
        code, text = INVALID_RESULT, "Expected a result that can be written as JSON in UTF-8, but it cannot."
    outcome = Outcome.IN_DOUBT if a.ledgered and r.outcome is Outcome.OK else Outcome.FAILED
    if r.outcome is Outcome.IN_DOUBT:
        outcome = Outcome.IN_DOUBT
    message = text
    if r.error is not None:
        message = f"{r.error.code}: {r.error.message}"[:_MOST_MESSAGE].encode("utf-8", "replace").decode()
        code = r.error.code.encode("utf-8", "replace").decode()[:64]
    shown = Failure(code=code, message=message, evidence=text, retryable=r.error.retryable if r.error else False)
    told = plain_result(
        a.task, outcome, error=shown, worker=r.worker, started_at=r.started_at, finished_at=r.finished_at
    )
    return told, encode(told)


def _fits(r: Result) -> bool:
    try:
        return len(encode(r)) <= MAX_RESULT_BYTES
    except ValueError:
        return False


def again(stored: bytes, task: Task) -> Result:
    """The stored answer of an effect that happened, as the answer to `task`. Raises ValueError when it cannot be read."""
    r = Result.__pydantic_validator__.validate_json(stored)
    return r.model_copy(update={"attempt": task.attempt, "kind": task.kind.answered})


_WHY = {
    "cancelled": "The workflow no longer wanted the attempt, which was stopped midway.",
    "start-to-close": "The attempt took longer than its start-to-close and was stopped midway.",
    "worker-stopped": "The worker had to stop before the attempt was done.",
}


def _short(error: BaseException) -> str:
    try:
        text = str(error).split("\n", 1)[0]
    except Exception:  # noqa: BLE001  # a foreign __str__ must not take the answer with it
        text = ""
    if isinstance(error, ValidationError):  # its first line says only that there is a fault
        text = f"{text}: {first_fault(error)}"
    elif isinstance(error, BaseExceptionGroup) and (first := _leaf(error)) is not None:
        text = f"{text}: {type(first).__name__}: {_short(first)}"
    return text.encode("utf-8", "replace").decode()[:_MOST_MESSAGE]


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first of a group that is none itself."""
    for inner in group.exceptions:
        found = _leaf(inner) if isinstance(inner, BaseExceptionGroup) else inner
        if found is not None:
            return found
    return None
