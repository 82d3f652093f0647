"""A random world around the real engine: plans, agents, a bus that reorders, repeats and loses, people, new owners; by seed.

`World(seed).run()` plays one workflow to its end on a simulated clock and keeps every step. The checks of `checks.py` run
after each step; `properties.py` judges the whole story afterwards. The same seed plays the same story.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from handrail_contracts.events import UNDO_STATES, NodeStatus
from handrail_contracts.plan import EffectClass, PauseScope
from handrail_contracts.tasks import DeadLetter, Failure, Heartbeat, Outcome, Result, Task, TaskKind
from handrail_engine.decide import Decided, adopt, begun_by, decide, heard, renew
from handrail_engine.evolve import fold
from handrail_engine.inputs import Cancel, Claim, Decision, Input, Now, PanicPause, Rejection, Say, Start, Wake
from handrail_engine.outgoing import Dispatch, late_effect
from handrail_engine.planning import gone
from handrail_engine.policies import Policies
from handrail_engine.preview import preview
from handrail_engine.snapshot import freeze, thaw
from handrail_engine.state import NodeState, Row, WorkflowState
from handrail_engine.turn import Message
from unit.engine.agents import CALM, ROUGH, Agents, Run
from unit.engine.checks import Broken, Witness, expect, plain, through_json
from unit.engine.plans import AGENTS, compiled, random_plan

T0 = 1_800_000_000_000
MAX_STEPS = 4_000


@dataclass(frozen=True)
class Before:
    """What matters of the state before a step."""

    status: str
    held: bool
    ending: bool
    pauses: dict[str, tuple[str, str | None, bool]]  # kind, node, of workflow scope
    nodes: dict[str, tuple[str, int, int, bool]]  # state, attempt, generation, in doubt


@dataclass
class Step:
    """One input and what came of it."""

    now: int
    what: Input
    before: Before
    rows: list[Row]
    messages: list[Message]
    rejected: Rejection | None
    repeat: bool = False
    room: dict[str, int] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)


@dataclass
class World:
    """One workflow and everything around it."""

    seed: int
    size: int | None = None
    steps: list[Step] = field(default_factory=list)
    sent: list[tuple[int, Message]] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)  # effect keys on the list of late effects
    previews: int = 0
    snapshots: list[tuple[int, str]] = field(default_factory=list)  # seq, the state as it was written down then
    owners: int = 1
    policies: Policies = field(default_factory=Policies)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        rng = self.rng
        self.plan = self.draw(self.size)
        self.calm = rng.random() < 0.35
        self.state = WorkflowState("t", "w")
        self.witness = Witness(self.state)
        self.agents = Agents(rng, CALM if self.calm else ROUGH)
        self.now = T0
        self.queue: list[tuple[int, int, str, Any]] = []
        self.n = 0
        self.last_claim: dict[str, int] = {}
        self.loss = 0.0 if self.calm else rng.choice((0.0, 0.05, 0.2))
        self.absent = {a for a in (*AGENTS, "planner") if rng.random() < 0.04}
        self.down = {a: (T0 + rng.randint(0, 40_000), T0 + rng.randint(40_000, 90_000)) for a in AGENTS}
        self.presses = 0
        self.limits = self._limits(Random(self.seed + 1))
        self.keeper = Random(f"snapshots {self.seed}")
        self.grower = Random(f"appended {self.seed}")
        self.appended: dict[str, list[dict[str, Any]]] = {}
        self.unfit: set[tuple[str, int]] = set()  # answers that will be refused

    def draw(self, size: int | None, prefix: str = "n") -> dict[str, Any]:
        """A plan, or what a node appends to it."""
        return random_plan(self.rng, size=size, prefix=prefix)

    # playing

    def run(self) -> World:
        self._start()
        while not self.state.ended:
            expect(len(self.steps) < MAX_STEPS, "terminates", f"{MAX_STEPS} steps and it is {self.state.status}")
            self._next()
        self._afterwards()
        return self

    def _limits(self, rng: Random) -> dict[str, tuple[int, int]]:
        """How many attempts of an agent, or of its action, may be in flight, and until when other workflows take all of it."""
        if rng.random() < 0.6:
            return {}
        names = [a for a in AGENTS if rng.random() < 0.6]
        return {rng.choice((a, f"{a}/act")): (rng.choice((1, 1, 2)), T0 + rng.choice((0, 0, 25_000))) for a in names}

    def room(self) -> dict[str, int]:
        taken = self.state.places
        return {k: most - taken.get(k, 0) if self.now >= busy else 0 for k, (most, busy) in self.limits.items()}

    def _start(self) -> None:
        rng = self.rng
        planner = rng.random() < 0.1
        plan = compiled(self.plan)
        start = Start(
            "do it",
            None,
            {"flag": rng.random() < 0.7},
            {},
            None if planner else plan["nodes"],
            None if planner else plan["output"],
            rng.choice((None, None, None, 20.0, 100.0)),
        )
        if not self.calm:
            for kind, p in (("panic", 0.25), ("cancel", 0.15), ("owner", 0.4), ("bus", 0.2), ("foreign", 0.2)):
                if rng.random() < p:
                    self.later(rng.randint(0, 60_000), kind, None)
        self.give(start)

    def later(self, delay: int, kind: str, payload: Any) -> None:
        self.n += 1
        heapq.heappush(self.queue, (self.now + delay, self.n, kind, payload))

    def _next(self) -> None:
        wake = self.state.next_wake()
        due = self.queue[0][0] if self.queue else None
        if wake is not None and (due is None or wake <= due):
            self._wake(max(wake, self.now))
        elif due is not None:
            at, _, kind, payload = heapq.heappop(self.queue)
            self.now = max(at, self.now)
            self._happen(kind, payload)
        else:
            raise Broken("never_stuck", f"nothing will ever happen: {self.state.status}")

    def _wake(self, at: int) -> None:
        self.now = at + (self.rng.randint(0, 500) if self.rng.random() < 0.2 else 0)
        self.give(Wake())
        due = self.state.next_wake()
        expect(due is None or due > self.now, "a_wake_does_not_wake_for_ever", f"due {due} after a wake at {self.now}")

    def _happen(self, kind: str, payload: Any) -> None:
        match kind:
            case "task":
                self._task(payload)
            case "act":
                self._answers(self.agents.act(payload))
            case "end":
                self._answers(self._with_nodes(payload, self.agents.end(payload)))
            case "beat":
                self._beat(payload)
            case "result":
                self._result(payload)
            case "letter":
                self.give(payload)
            case "operator":
                self._operate(payload)
            case "owner" | "bus":
                self._new_owner(bus_lost=kind == "bus")
            case "panic":
                self.give(PanicPause("stop"))
            case "cancel":
                self.give(Cancel(self.rng.random() < 0.7))
            case _:
                self._foreign()

    def give(self, what: Input, *, repeat: bool = False) -> Decided | Rejection:
        """Lets the engine decide, checks the state, and takes what it sends."""
        s = self.state
        before = _before(s)
        was = plain(s.facts()) if repeat or self.rng.random() < 0.1 else None
        foreseen, rolling_back = self._foresee(what), s.ending is not None
        room = self.room()
        answer = decide(s, what, Now(self.now, self.last_claim, self.policies, room=room))
        if isinstance(answer, Rejection):
            self.steps.append(Step(self.now, what, before, [], [], answer, repeat))
            if was is not None:
                expect(plain(s.facts()) == was, "a_rejection_changes_nothing", f"{what} {answer}")
            return answer
        self.steps.append(Step(self.now, what, before, answer.rows, answer.messages, None, repeat, room, self.policies))
        self.witness.rows_come(s, answer.rows)
        self.witness.look(s)
        if not s.ended and self.keeper.random() < 0.2:
            self.snapshots.append((s.seq, json.dumps(freeze(s))))
        if foreseen is not None:
            effect = _effect(before, s, answer.rows, rolling_back)
            if rolling_back:  # what goes on is in no row, so its order is not either
                effect["undo"], foreseen["undo"] = sorted(effect["undo"]), sorted(foreseen["undo"])
            expect(foreseen == effect, "preview_equals_effect", f"{what}: {foreseen}, but {effect}")
        self._deliver(answer.messages)
        for row in answer.rows:
            if row.type == "WORKFLOW_PAUSED_HITL":
                self.later(self.rng.randint(200, 40_000), "operator", row.data["pause_id"])
        if not repeat and self.rng.random() < 0.25 and not isinstance(what, (Claim, Say)):
            again = self.give(what, repeat=True)
            expect(isinstance(again, Rejection), "a_repeat_changes_nothing", f"{what} again: {again}")
        return answer

    def _foresee(self, what: Input) -> dict[str, Any] | None:
        if not isinstance(what, Decision) or self.rng.random() > 0.3:
            return None
        copy = fold("t", "w", [through_json(r) for r in self.witness.rows])
        try:
            seen = preview(copy, what.pause_id, what.action_id, what.input, self.now, self.policies, room=self.room())
        except LookupError:
            return None
        self.previews += 1
        return {k: seen[k] for k in ("status_after", "nodes", "undo")}

    # the bus

    def _deliver(self, messages: list[Message]) -> None:
        rng = self.rng
        for m in messages:
            self.sent.append((self.now, m))
            copies = 1 if rng.random() > self.loss else rng.choice((0, 2))
            if isinstance(m, DeadLetter):
                if m.kind == "late_effect":
                    assert m.task is not None
                    self.shown.add(m.task["effect_key"])
                    continue
                for _ in range(copies):
                    self.later(rng.randint(0, 4_000), "letter", m)
                continue
            Task.model_validate(m._asdict(), strict=True)
            for _ in range(copies):
                self.later(rng.randint(0, 800) if rng.random() < 0.9 else rng.randint(0, 20_000), "task", m)

    def _answers(self, results: list[Result]) -> None:
        rng = self.rng
        for r in results:
            if rng.random() < self.loss and self._claim_is_known(r):
                continue
            for _ in range(2 if rng.random() < self.loss else 1):
                late = rng.random() < 0.1 and r.outcome is not Outcome.STARTED
                self.later(rng.randint(0, 30_000) if late else rng.randint(0, 900), "result", r)

    def _claim_is_known(self, r: Result) -> bool:
        n = self.state.nodes.get(r.node_id)
        if n is None or n.live is None or n.live.lease_until is None:
            return False
        undo = r.kind is TaskKind.COMPENSATE
        if undo != (n.state is NodeStatus.COMPENSATING):
            return False  # the lease that runs is another's: nothing would follow from this answer's loss
        return r.attempt == (n.undo.attempt if undo else n.attempt)

    def _task(self, task: Dispatch) -> None:
        if task.agent in self.absent:
            return
        begins, ends = self.down.get(task.agent, (0, 0))
        if begins <= self.now < ends and not self.calm:
            self.later(ends - self.now + self.rng.randint(0, 2_000), "task", task)
            return
        results, run = self.agents.take(task, self.now)
        self._answers(results)
        if run is not None:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        short = run.end_ms - self.now <= 50 and run.act not in ("crash", "hang", "zombie")
        if not short:
            started = self.agents.result(run.task, Outcome.STARTED)
            if run.silent or self.rng.random() >= self.loss:
                self.later(self.rng.randint(0, 900), "result", started)
            if not run.silent:
                self.later(int(run.task.lease_s * 300), "beat", run)
        self.later(run.effect_ms - self.now, "act", run)
        self.later(run.end_ms - self.now, "end", run)

    def _beat(self, run: Run) -> None:
        if run.over:
            return
        if self.rng.random() >= self.loss:
            beat = self.agents.beat(run.task)
            started = begun_by(self.state, beat)
            heard(self.state, beat, Now(self.now))
            if started is not None:
                self._result(started)
        self.later(int(run.task.lease_s * 300), "beat", run)

    def _with_nodes(self, run: Run, results: list[Result]) -> list[Result]:
        node = self.state.nodes.get(run.task.node_id)
        for i, r in enumerate(results):
            if r.outcome is not Outcome.OK or r.kind is TaskKind.COMPENSATE or node is None:
                continue
            if run.task.agent == "planner":
                results[i] = r.model_copy(update={"nodes": compiled(self.plan)["nodes"]})
            elif node.spec.may_add_nodes and self.rng.random() < 0.7:
                more = self._more(node)
                results[i] = r.model_copy(update={"nodes": more})
                bad = len(more) > node.spec.may_add_nodes or any(
                    gone(self.state, n["id"], d) for n in more for d in n["depends_on"]
                )
                if bad:
                    self.unfit.add((r.effect_key, r.attempt))
        return results

    def _more(self, node: NodeState) -> list[dict[str, Any]]:
        """What the node appends. One that was rolled back names again some of what it had named, and other nodes beside."""
        by, dice = node.spec.id, self.grower
        more = compiled(self.draw(self.rng.choice((1, 2, 2, 3)), prefix=f"{by}_{node.generation}_"))["nodes"]
        self._place(by, more)
        if before := self.appended.get(by):
            again: list[dict[str, Any]] = []
            for n in before:
                there = {*self.state.nodes, *(x["id"] for x in again)}
                if dice.random() < 0.6 and there.issuperset(n["depends_on"]):
                    url = dice.choice((n["inputs"]["url"], f"again {node.generation}"))
                    again.append({**n, "inputs": {**n["inputs"], "url": url}})
            if dice.random() < 0.3:
                self._place(by, again)
            more = again + (more if dice.random() < 0.4 else [])
        self.appended[by] = more
        return more

    def _place(self, by: str, more: list[dict[str, Any]]) -> None:
        """Lets what a node appends come after any node that there is by now, also one that was, or is, rolled back."""
        for n in more:
            n["depends_on"] = n.get("depends_on", []) or [by]
            if self.grower.random() < 0.6:
                undone = [k for k, x in self.state.nodes.items() if x.state in UNDO_STATES or self.state.undoes(x)]
                there = self.grower.choice(undone or [k for k in self.state.nodes if k != n["id"]])
                n["depends_on"] = list(dict.fromkeys([*n["depends_on"], there]))

    def _result(self, r: Result) -> None:
        node = self.state.nodes.get(r.node_id)
        claim = self.agents.claims.get(r.effect_key)
        judged = node is not None and node.live is not None and node.attempt == r.attempt
        if judged and claim is not None and claim.state == "DONE" and (r.effect_key, r.attempt) in self.unfit:
            claim.state = "FAILED"  # so that its next attempt may answer better
        if node is not None:
            self.last_claim[node.spec.agent] = self.now
        self.give(r)

    def _foreign(self) -> None:
        names = list(self.state.nodes)
        if names:
            error = Failure(code="ODD", message="seen elsewhere") if self.rng.random() < 0.5 else None
            self.give(DeadLetter(trace_id="w", node_id=self.rng.choice(names), reason="from elsewhere", error=error))

    def _new_owner(self, *, bus_lost: bool) -> None:
        self.owners += 1
        now = Now(self.now, self.last_claim, self.policies)
        self.state = taken_up(self, now, self.snapshots[-1:])
        if bus_lost:
            self.queue = [q for q in self.queue if q[2] not in ("task", "letter") and not self._lost(q)]
            heapq.heapify(self.queue)
            self._deliver(adopt(self.state, now))
        self.witness.look(self.state)

    def _lost(self, item: tuple[int, int, str, Any]) -> bool:
        if item[2] != "result":
            return False
        n = self.state.nodes[item[3].node_id]
        return n.live is not None

    # people

    def _operate(self, pause_id: str) -> None:
        pause = self.state.pauses.get(pause_id)
        rng = self.rng
        if pause is None:
            answer = self.give(Decision(pause_id, "RES_SKIP"))
            expect(isinstance(answer, Rejection), "a_pause_is_decided_once", f"{pause_id} was decided again")
            return
        if rng.random() < 0.1:
            self.give(Claim(pause_id, rng.choice(("ada", None)), "2027-01-01T00:00:00.000Z"))
            self.give(Say(pause_id, "operator", "looking"))
        chosen = self._choose(pause.data, pause.kind, pause.node_id)
        if chosen is None:
            self.later(3_000, "operator", pause_id)
            return
        self.presses += 1
        if chosen["action_id"] == "RES_MARK_UNDONE":
            assert pause.node_id is not None
            self.agents.by_hand(self.state.do_key(self.state.nodes[pause.node_id]))
        input_: Any = None
        if chosen.get("sets"):
            input_ = self.typed(chosen["sets"])
        elif chosen["kind"] == "skip" and rng.random() < 0.4:
            input_ = {"n": 2}
        elif chosen["action_id"] == "RES_HAPPENED":
            input_ = {"n": 1}
        self.give(Decision(pause_id, chosen["action_id"], input_, actor="ada"))

    def typed(self, name: str) -> Any:
        """What a person puts in place of this input."""
        return f"https://{self.presses}.example"

    def _choose(self, data: dict[str, Any], kind: str, node_id: str | None) -> dict[str, Any] | None:
        """The button that this person presses, or None to look again later. Whoever answers an ambiguous pause tells the truth."""
        offered = {r["action_id"]: r for r in data["available_resolutions"]}
        if kind == "ambiguous":
            assert node_id is not None
            key = self.state.do_key(self.state.nodes[node_id])
            if self.agents.busy(key):
                return None
            found = self.agents.provider.get(key)
            truth = "RES_HAPPENED" if found is not None and found.applied else "RES_DID_NOT_HAPPEN"
            return offered[self.rng.choice((truth, truth, "RES_ABORT_SAGA"))]
        patient = [
            r for r in offered.values() if r["kind"] not in ("retry", "hand_back") and r["action_id"] != "RES_BACK"
        ]
        if self.presses > 12 and patient:
            return self.rng.choice(patient)
        return self.rng.choice(list(offered.values()))

    # the end

    def _afterwards(self) -> None:
        """Whatever is still under way arrives; nothing may follow from it but the list of late effects."""
        while self.queue:
            at, _, kind, payload = heapq.heappop(self.queue)
            self.now = max(at, self.now)
            if kind in ("act", "end"):
                self._answers(self.agents.act(payload) if kind == "act" else self.agents.end(payload))
            elif kind == "task":
                self._task(payload)
            elif kind in ("result", "letter"):
                answer = self.give(payload)
                expect(isinstance(answer, Rejection), "terminal_is_terminal", f"{payload} after the end: {answer}")
                if isinstance(payload, Result) and (letter := late_effect(self.state, payload)) is not None:
                    assert letter.task is not None
                    self.shown.add(letter.task["effect_key"])

    @property
    def rows(self) -> list[Row]:
        return self.witness.rows

    def effect_of(self, node_id: str) -> EffectClass:
        return self.state.nodes[node_id].spec.effect_class


def taken_up(w: World, now: Now, snapshots: list[tuple[int, str]]) -> WorkflowState:
    """The state that a new owner begins with: from its newest snapshot where there is one; and by each of these the same."""
    rows = [through_json(r) for r in w.witness.rows]
    whole = fold("t", "w", rows)
    renew(whole, now)
    for seq, written in snapshots:
        quick = fold("t", "w", rows[seq:], onto=thaw("t", "w", json.loads(written)))
        renew(quick, now)
        if quick != whole:
            raise Broken("a_snapshot_and_the_rest_are_the_whole", f"from {seq} of {len(rows)}: {quick} / {whole}")
        whole = quick
    return whole


def _before(s: WorkflowState) -> Before:
    return Before(
        s.status.value,
        s.holding > 0,
        s.ends,
        {k: (p.kind, p.node_id, p.scope is PauseScope.WORKFLOW) for k, p in s.pauses.items()},
        {k: (n.state.value, n.attempt, n.generation, n.in_doubt) for k, n in s.nodes.items()},
    )


def _effect(before: Before, s: WorkflowState, rows: list[Row], rolling_back: bool) -> dict[str, Any]:
    """What a decision did, told as a preview tells it; taken from the rows, not from the state. Only what goes on of a
    rollback that was under way is in no row: each step whose undo is still to end, but was not out before."""
    states = {k: v[0] for k, v in before.nodes.items()}
    after = dict(states)
    undo: list[str] = []
    for r in rows:
        if r.type == "NODE_STATE_CHANGED":
            after[r.data["node_id"]] = r.data["to"]
        elif r.type == "WORKFLOW_COMPENSATING":
            undo.extend(n["node_id"] for n in r.data["nodes"])
    if rolling_back and not undo and not (s.ending is None or s.ending.stopped or s.held):
        undo = [k for k, n in s.nodes.items() if _awaits_undo(s, n) and states[k] != "COMPENSATING"]
    changed = [{"node_id": k, "from": states[k], "to": after[k]} for k in states if after[k] != states[k]]
    return {"status_after": s.status.value, "nodes": changed, "undo": undo}


def _awaits_undo(s: WorkflowState, n: NodeState) -> bool:
    happened = n.state in ("COMPLETE", "COMPENSATING", "COMPENSATION_FAILED")
    possible = n.spec.effect_class is not EffectClass.PURE and (n.live is not None or n.in_doubt)
    return s.undoes(n) and n.spec.undoing is not None and not n.undo.settled and (happened or possible)


__all__ = ["Before", "Heartbeat", "Step", "World"]
