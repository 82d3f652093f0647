"""The agents' side of a random world: the claim rules of DESIGN section 8, and a provider that counts what really happened.

Assumptions, each one of the design's: an attempt ends within its start-to-close; the last check of the claim and an effect
that a provider cannot deduplicate are one step; a word that an attempt is claimed comes within two seconds. Everything
else may be late, twice, out of order or lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from handrail_contracts.model import ms_of
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import Escalation, Failure, Heartbeat, Outcome, Result, TaskKind
from handrail_engine.outgoing import Dispatch

Act = Literal["ok", "error", "fatal", "doubt", "crash", "zombie", "hang", "escalate", "propose"]
ACTS: tuple[Act, ...] = ("ok", "error", "fatal", "doubt", "crash", "zombie", "hang", "escalate")
CALM = (70, 8, 2, 2, 2, 2, 2, 2)
ROUGH = (40, 16, 4, 8, 8, 8, 8, 4)


@dataclass
class Claim:
    """A row of the agents' table `effect`."""

    state: str  # INTENT, DONE, FAILED, TOMBSTONE
    attempt: int
    started_ms: int
    result: Any = None
    cancel_answer: Outcome | None = None


@dataclass
class Effect:
    """What the outside world knows of one effect key."""

    node_id: str
    applied: int = 0
    standing: bool = False
    undone: int = 0


@dataclass
class Run:
    """An attempt that a worker is at. `silent`: its worker shows no sign of life, though it may still act."""

    task: Dispatch
    act: Act
    effect_ms: int
    end_ms: int
    silent: bool
    over: bool = False
    stop: bool = False
    acted: bool = False


@dataclass
class Agents:
    """All agents. `send` puts a result or heartbeat onto the way back; `later` runs a step at a time."""

    rng: Random
    weights: tuple[int, ...]
    claims: dict[str, Claim] = field(default_factory=dict)
    provider: dict[str, Effect] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    tick: int = 0

    def busy(self, key: str) -> bool:
        """True while some worker, silent or not, may still act under this key."""
        return any(not r.over and (r.task.do_key or r.task.effect_key) == key for r in self.runs)

    def effect(self, key: str, node_id: str) -> Effect:
        return self.provider.setdefault(key, Effect(node_id))

    # a task arrives

    def take(self, task: Dispatch, now: int) -> tuple[list[Result], Run | None]:
        """What a worker answers at once, and the attempt that it begins."""
        if task.kind is TaskKind.CANCEL:
            return self._cancel(task), None
        if task.kind is TaskKind.COMPENSATE:
            assert task.do_key is not None
            started = self._claim(task, now)
            if isinstance(started, Run):
                old = self.claims.setdefault(task.do_key, Claim("TOMBSTONE", 0, now))
                old.state = "TOMBSTONE"
        else:
            started = self._claim(task, now)
        if not isinstance(started, Run):
            return started, None
        return [], started

    def _claim(self, task: Dispatch, now: int) -> Run | list[Result]:
        too_late = now >= ms_of(task.start_before)
        if task.effect_class is EffectClass.PURE and task.kind is not TaskKind.COMPENSATE:
            return [] if too_late else self._begin(task, now)
        c = self.claims.get(task.effect_key)
        if c is None and too_late:
            return []
        if c is None:
            self.claims[task.effect_key] = Claim("INTENT", task.attempt, now)
            return self._begin(task, now)
        if c.state == "DONE":
            return [self.result(task, Outcome.OK, output=c.result)]
        if c.state == "TOMBSTONE" or c.attempt > task.attempt:
            return []
        if c.attempt == task.attempt:
            return [self.result(task, Outcome.STARTED)]
        if too_late:
            return []
        c.attempt, c.started_ms, c.state = task.attempt, now, "INTENT"
        return self._begin(task, now)

    def _begin(self, task: Dispatch, now: int) -> Run:
        act = self.rng.choices(ACTS, self.weights)[0]
        if task.kind is TaskKind.LOOK_UP and act in ("escalate", "doubt"):
            act = "ok"
        if task.kind is TaskKind.COMPENSATE and act == "escalate":
            act = "error"
        length = int(min(self.rng.choice((20, 200, 900, 2500, 6000)), task.start_to_close_s * 900))
        if act == "zombie":
            length = int(task.start_to_close_s * 900)
        acts_ms = now + self.rng.randint(0, min(length, 3_000))
        run = Run(task, act, acts_ms, now + length, act in ("zombie", "hang", "crash"))
        self.runs.append(run)
        return run

    def _cancel(self, task: Dispatch) -> list[Result]:
        run = next((r for r in self.runs if not r.over and r.task.effect_key == task.effect_key), None)
        if task.effect_class is EffectClass.PURE:
            if run is not None:
                run.over = True
            return [self.result(task, Outcome.CANCELLED)]
        c = self.claims.get(task.effect_key)
        if c is None:
            self.claims[task.effect_key] = Claim("TOMBSTONE", task.attempt, 0, cancel_answer=Outcome.CANCELLED)
            return [self.result(task, Outcome.CANCELLED)]
        if c.state == "DONE":
            return [self.result(task, Outcome.OK, output=c.result)]
        if c.state == "TOMBSTONE":
            return [self.result(task, c.cancel_answer or Outcome.IN_DOUBT)]
        if run is not None and not run.silent:
            run.stop = True  # it answers itself, at its next step
            return []
        nothing = c.state == "FAILED" and not self.effect(task.effect_key, task.node_id).applied
        c.cancel_answer = Outcome.CANCELLED if nothing else Outcome.IN_DOUBT
        c.state = "TOMBSTONE"
        return [self.result(task, c.cancel_answer)]

    # an attempt goes on

    def act(self, run: Run) -> list[Result]:
        """The moment of the effect: the claim is looked at once more, then it happens or not."""
        task = run.task
        if run.over:
            return []
        key = task.effect_key
        if task.kind is TaskKind.COMPENSATE:
            if self._fenced(task):
                run.over = True
            elif run.act in ("ok", "zombie") or (run.act in ("doubt", "crash") and self.rng.random() < 0.5):
                self._undo(task)
                run.acted = True
            return []
        if task.effect_class is EffectClass.PURE or task.kind is TaskKind.LOOK_UP:
            if run.stop:
                run.over = True
                return [self.result(task, Outcome.CANCELLED)]
            return []
        if run.stop or self._fenced(task):
            run.over = True
            return self._stopped(run)
        if run.act in ("ok", "zombie") or (run.act in ("doubt", "crash") and self.rng.random() < 0.5):
            run.acted = True
            slow = task.effect_class is EffectClass.IDEMPOTENT and self.rng.random() < (0.7 if run.silent else 0.2)
            if not slow:
                self._apply(key, task)  # else it lands only at the end: a slow provider
        return []

    def _stopped(self, run: Run) -> list[Result]:
        c = self.claims[run.task.effect_key]
        if run.silent or c.attempt != run.task.attempt:
            return []
        if run.stop:
            c.state, c.cancel_answer = "TOMBSTONE", Outcome.CANCELLED
        return [self.result(run.task, Outcome.CANCELLED)]

    def end(self, run: Run) -> list[Result]:
        """What the worker says at the end of an attempt."""
        task = run.task
        if run.over:
            return []
        run.over = True
        if run.act in ("crash", "hang"):
            return []
        if task.kind is TaskKind.COMPENSATE:
            return self._undone(run)
        if task.kind is TaskKind.LOOK_UP:
            return self._looked_up(run)
        if run.acted and task.effect_class is EffectClass.IDEMPOTENT:
            self._apply(task.effect_key, task)
        c = self.claims.get(task.effect_key)
        mine = c is not None and c.attempt == task.attempt and c.state == "INTENT"
        if run.act in ("ok", "zombie"):
            output = {"n": self.rng.randint(0, 3)}
            if c is not None and mine:
                c.state, c.result = "DONE", output
            return [self.result(task, Outcome.OK, output=output)]
        if run.act == "doubt":
            return [self.result(task, Outcome.IN_DOUBT, error=Failure(code="STOPPED", message="stopped midway"))]
        if c is not None and mine:
            c.state = "FAILED"
        if run.act == "escalate":
            return [self.result(task, Outcome.ESCALATED, escalation=Escalation(reason="not mine"))]
        code = f"E{self.rng.randint(1, 2)}"
        return [self.result(task, Outcome.FAILED, error=Failure(code=code, message=code, retryable=run.act != "fatal"))]

    def _looked_up(self, run: Run) -> list[Result]:
        task = run.task
        if run.act in ("error", "fatal"):
            return [self.result(task, Outcome.FAILED, error=Failure(code="DOWN", message="provider is down"))]
        c = self.claims[task.effect_key]
        found = self.provider.get(task.effect_key)
        if found is not None and found.applied:
            c.state, c.result = ("DONE", c.result or {"n": 9}) if c.state != "TOMBSTONE" else (c.state, c.result)
            return [self.result(task, Outcome.OK, output=c.result or {"n": 9})]
        if c.state == "INTENT":
            c.state = "FAILED"
        return [self.result(task, Outcome.FAILED, error=Failure(code="NOT_FOUND", message="nothing there"))]

    def _undone(self, run: Run) -> list[Result]:
        task = run.task
        c = self.claims[task.effect_key]
        if run.acted and run.act in ("ok", "zombie"):
            if c.attempt == task.attempt:
                c.state = "DONE"
            return [self.result(task, Outcome.OK, output=c.result)]
        if c.attempt == task.attempt:
            c.state = "FAILED"
        doubt = run.act == "doubt"
        error = Failure(code="NO", message="not undone", retryable=run.act != "fatal")
        return [self.result(task, Outcome.IN_DOUBT if doubt else Outcome.FAILED, error=error)]

    def _fenced(self, task: Dispatch) -> bool:
        c = self.claims.get(task.effect_key)
        return c is None or c.attempt != task.attempt or c.state != "INTENT"

    # the outside world

    def _apply(self, key: str, task: Dispatch) -> None:
        e = self.effect(key, task.node_id)
        if task.effect_class is EffectClass.IDEMPOTENT and e.applied:
            return  # a provider that knows the key answers as before
        e.applied += 1
        e.standing = True
        if task.effect_class is not EffectClass.IDEMPOTENT:
            c = self.claims[key]
            if c.state == "INTENT":
                c.result = {"n": 1}

    def _undo(self, task: Dispatch) -> None:
        assert task.do_key is not None
        e = self.provider.get(task.do_key)
        c = self.claims[task.effect_key]
        if e is None or not e.standing:
            c.result = {"nothing_to_undo": True}
            return
        e.standing, c.result = False, None
        e.undone += 1

    def by_hand(self, key: str) -> None:
        """A person undoes it outside of everything."""
        e = self.provider.get(key)
        if e is not None:
            e.standing = False

    def result(self, task: Dispatch, outcome: Outcome, **more: Any) -> Result:
        kind = TaskKind.EXECUTE if task.kind is TaskKind.CANCEL else task.kind
        return Result(
            kind=kind,
            tenant=task.tenant,
            trace_id=task.trace_id,
            node_id=task.node_id,
            attempt=task.attempt,
            effect_key=task.effect_key,
            outcome=outcome,
            worker="w",
            **more,
        )

    @staticmethod
    def beat(task: Dispatch) -> Heartbeat:
        return Heartbeat(
            tenant=task.tenant,
            trace_id=task.trace_id,
            node_id=task.node_id,
            attempt=task.attempt,
            effect_key=task.effect_key,
        )
