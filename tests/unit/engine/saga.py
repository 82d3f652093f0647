"""Given rows, when an input comes, then these rows follow: a saga told step by step, checked after every step."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import EventType, NodeStatus
from handrail_contracts.plan import Plan
from handrail_contracts.tasks import (
    DeadLetter,
    Escalation,
    Failure,
    Heartbeat,
    Outcome,
    ProposedAction,
    Result,
    TaskKind,
)
from handrail_engine.decide import Decided, adopt, begun_by, decide, heard, renew
from handrail_engine.evolve import fold
from handrail_engine.inputs import Cancel, Decision, Input, Now, PanicPause, Rejection, Start, Wake
from handrail_engine.outgoing import Dispatch
from handrail_engine.plan import compile_plan, validate
from handrail_engine.policies import Policies
from handrail_engine.state import NodeState, Row, WorkflowState
from handrail_engine.turn import Message
from unit.engine.checks import Witness

T0 = 1_800_000_000_000
RETRY = {"max_attempts": 3, "backoff": "fixed", "initial_delay_s": 1.0, "jitter": "none"}
MANIFEST: dict[str, Any] = {"effect_class": "pure", "compensatable": True, "retry": RETRY}


class AnyAgent(dict[tuple[str, str], dict[str, Any]]):
    """A registry that knows every agent, each with the same manifest."""

    def __missing__(self, key: tuple[str, str]) -> dict[str, Any]:
        return MANIFEST

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        return self[key]


def node(id_: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "agent": fields.pop("agent", "bot"), "action": "act", "depends_on": list(depends_on), **fields}


def compiled(*nodes: dict[str, Any]) -> list[dict[str, Any]]:
    plan = Plan.model_validate({"nodes": list(nodes)})
    problems = validate(plan, AnyAgent())
    assert not problems, problems
    return compile_plan(plan, AnyAgent())["nodes"]


DIAMOND = (node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"))


class Saga:
    """One workflow and its journal. Times are seconds since the start; every step is checked by a Witness (with
    `large`, only what costs no walk over all nodes)."""

    def __init__(
        self,
        *nodes: dict[str, Any],
        input: dict[str, Any] | None = None,
        large: bool = False,
        policies: Policies | None = None,
        **start: Any,
    ) -> None:
        self.large = large
        self.policies = policies or Policies()
        self.state = WorkflowState("t", "w")
        self.witness = Witness(self.state)
        self.now_ms = T0
        self.last_claim: dict[str, int] = {}
        self.limits: dict[str, int] = start.pop("room", {})
        self.messages: list[Message] = []
        self.last: list[Row] = []
        plan = compiled(*nodes) if nodes else None
        self.do(Start(start.pop("intent", None), None, input or {}, {}, plan, **start))

    @property
    def rows(self) -> list[Row]:
        return self.witness.rows

    def do(self, what: Input) -> Decided | Rejection:
        before = None if self.large else self.state.facts()
        room = {k: n - self.state.places.get(k, 0) for k, n in self.limits.items()}
        answer = decide(self.state, what, Now(self.now_ms, self.last_claim, self.policies, room=room))
        self.last = []
        if isinstance(answer, Rejection):
            assert self.large or self.state.facts() == before, f"a rejection changed the state: {answer}"
        else:
            self.last = answer.rows
            self.messages.extend(answer.messages)
            self.witness.rows_come(self.state, answer.rows)
        if not self.large:
            self.witness.look(self.state)
        return answer

    # when: time

    def wait(self, seconds: float) -> Saga:
        """Time passes; every wake-up on the way is taken."""
        until = self.now_ms + round(seconds * 1000)
        rows: list[Row] = []
        while (due := self.state.next_wake()) is not None and due <= until:
            self.now_ms = max(due, self.now_ms)
            self.do(Wake())
            rows.extend(self.last)
            assert self.state.ended or (self.state.next_wake() or until + 1) > self.now_ms, "a wake that wakes for ever"
        self.now_ms = until
        self.last = rows
        return self

    # when: answers

    def answer(self, node_id: str, outcome: Outcome, **more: Any) -> Decided | Rejection:
        n = self[node_id]
        undo = n.state in (NodeStatus.COMPENSATING, NodeStatus.COMPENSATION_FAILED, NodeStatus.COMPENSATED)
        undo = more.pop("undo", undo)
        default = (n.undo.attempt, self.state.undo_key(n)) if undo else (n.attempt, self.state.do_key(n))
        kind = TaskKind.COMPENSATE if undo else TaskKind.EXECUTE
        attempt, key = more.pop("attempt", default[0]), more.pop("key", default[1])
        r = Result(kind=kind, trace_id="w", node_id=node_id, attempt=attempt, effect_key=key, outcome=outcome, **more)
        return self.do(r)

    def ok(self, *node_ids: str, output: Any = None, **more: Any) -> Saga:
        for node_id in node_ids:
            self.answer(node_id, Outcome.OK, output=output, **more)
        return self

    def started(self, *node_ids: str) -> Saga:
        for node_id in node_ids:
            self.answer(node_id, Outcome.STARTED, worker="w1")
        return self

    def fails(self, node_id: str, code: str = "E", **error: Any) -> Saga:
        more = {k: error.pop(k) for k in ("attempt", "key", "undo") if k in error}
        self.answer(node_id, Outcome.FAILED, error=Failure(code=code, message=f"{code} happened", **error), **more)
        return self

    def in_doubt(self, node_id: str, **more: Any) -> Saga:
        self.answer(node_id, Outcome.IN_DOUBT, error=Failure(code="STOPPED", message="stopped midway"), **more)
        return self

    def escalates(self, node_id: str, **more: Any) -> Saga:
        talk = [{"role": "user", "text": "a person, please", "at": "2026-01-01T00:00:00.000Z"}]
        self.answer(node_id, Outcome.ESCALATED, escalation=Escalation(reason="out of depth", transcript=talk, **more))
        return self

    def proposes(self, node_id: str, action: str, args: dict[str, Any], **more: Any) -> Saga:
        self.answer(node_id, Outcome.PROPOSED, proposed=ProposedAction(action=action, args=args, **more))
        return self

    def exhaust(self, node_id: str, code: str = "E") -> Saga:
        """Fails the node for good; its dead letter comes back by the wake-up."""
        return self.fails(node_id, code, retryable=False).wait(2)

    def heartbeat(self, node_id: str) -> bool:
        n = self[node_id]
        undo = n.state is NodeStatus.COMPENSATING
        attempt, key = (n.undo.attempt, self.state.undo_key(n)) if undo else (n.attempt, self.state.do_key(n))
        beat = Heartbeat(trace_id="w", node_id=node_id, attempt=attempt, effect_key=key)
        started = begun_by(self.state, beat)
        known = heard(self.state, beat, Now(self.now_ms))
        if started is not None:
            self.do(started)
        return known

    # when: people

    def press(self, action_id: str, input: Any = None, *, at: str | None = None, **more: Any) -> Decided | Rejection:
        """Presses a button of the only open pause, or of the one of node `at`."""
        found = [p for p in self.state.pauses.values() if at is None or p.node_id == at]
        assert len(found) == 1, f"expected one pause, found {[p.pause_id for p in found]}"
        return self.do(Decision(found[0].pause_id, action_id, input, actor=more.pop("actor", "ada"), **more))

    def cancel(self, *, undo: bool = True) -> Saga:
        self.do(Cancel(undo, "enough"))
        return self

    def panic(self) -> Saga:
        self.do(PanicPause("stop"))
        return self

    def letter(self, node_id: str, letter_id: str | None = None, **more: Any) -> Decided | Rejection:
        return self.do(DeadLetter(trace_id="w", node_id=node_id, dead_letter_id=letter_id, **more))

    # when: the owner

    def owner_changes(self, *, bus_lost: bool = False) -> Saga:
        """Another owner folds the journal; with `bus_lost` what was under way is gone and must be sent again."""
        self.state = fold("t", "w", self.rows)
        now = Now(self.now_ms, self.last_claim, self.policies)
        renew(self.state, now)
        if bus_lost:
            self.messages.extend(adopt(self.state, now))
        self.witness.look(self.state)
        return self

    # then

    def __getitem__(self, node_id: str) -> NodeState:
        return self.state.nodes[node_id]

    @property
    def states(self) -> dict[str, str]:
        return {k: n.state.value for k, n in self.state.nodes.items()}

    def state_of(self, *node_ids: str) -> list[str]:
        return [self[k].state.value for k in node_ids]

    @property
    def status(self) -> str:
        return self.state.status.value

    @property
    def pause(self) -> dict[str, Any]:
        assert len(self.state.pauses) == 1, f"expected one pause, found {list(self.state.pauses)}"
        return next(iter(self.state.pauses.values())).data

    @property
    def buttons(self) -> list[str]:
        return [r["action_id"] for r in self.pause["available_resolutions"]]

    def told(self, rows: list[Row] | None = None) -> list[str]:
        """The rows of the last step, short: `a SCHEDULED`, `TASK_DEAD_LETTERED a`."""
        return [_short(r) for r in (self.last if rows is None else rows)]

    def sent(self, kind: TaskKind = TaskKind.EXECUTE, node_id: str | None = None) -> list[Dispatch]:
        return [
            m
            for m in self.messages
            if isinstance(m, Dispatch) and m.kind is kind and (node_id is None or m.node_id == node_id)
        ]


def _short(r: Row) -> str:
    d = r.data
    if r.type == EventType.NODE_STATE_CHANGED:
        return f"{d['node_id']} {d['to']}"
    if r.type == EventType.GATE_EVALUATED:
        return f"{r.type} {d['node_id']} {d['decide']} {d['rule_id']}"
    if r.type in (EventType.TASK_DEAD_LETTERED, EventType.RESULT_IGNORED):
        return f"{r.type} {d['node_id']}" + (f" {d['reason']}" if "reason" in d else "")
    if r.type == EventType.HITL_RESOLVED:
        return f"{r.type} {d['outcome']}"
    return str(r.type)
