"""Random worlds with gates: policies that change while the workflow runs, `gate` nodes, content from outside, agents that
propose instead of acting, people who approve, edit and refuse; in a third of them agents spend, and policies have budgets.

What concerns gates is drawn from a random stream of its own, so that the worlds without them play as they always did.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from handrail_contracts.policy import Policy
from handrail_contracts.tasks import Outcome, ProposedAction, Result, TaskKind
from handrail_engine.inputs import Decision
from handrail_engine.outgoing import Dispatch
from handrail_engine.policies import Policies
from handrail_engine.taint import mark_tainted
from unit.engine.agents import CALM, ROUGH, Act, Agents, Run
from unit.engine.plans import AGENTS, SKIP
from unit.engine.world import T0, World

PROPOSED = ("refund", "wipe")
AMOUNTS: tuple[Any, ...] = (5, 50, 500, 5000, "500", None)
DECIDES = ("forbid", "always", "uncertain", "never")
RETRY_AMOUNT = {
    "action_id": "RES_AMOUNT",
    "display_text": "With another amount",
    "kind": "retry",
    "sets": "amount",
    "requires_input": True,
    "input_schema": "number",
}
_OK: tuple[Act, ...] = ("ok", "zombie", "doubt", "crash")


@dataclass(frozen=True)
class Done:
    """Something that an agent did, or began to do: by which task, and with which arguments."""

    task: Dispatch
    action: str
    args: dict[str, Any]


class GatedAgents(Agents):
    """Agents of which some nodes' propose, until they are told by what they may act."""

    gates: Random
    proposers: dict[str, bool]
    done: list[Done]
    confirmations: bool = True
    purse: Random | None = None

    def _begin(self, task: Dispatch, now: int) -> Run:
        run = super()._begin(task, now)
        if task.kind is not TaskKind.EXECUTE:
            return run
        proposes = self.proposers.setdefault(task.node_id, self.gates.random() < 0.4) and run.act in _OK
        if proposes and (task.approved is None or self.gates.random() < 0.15):
            run.act, run.silent = "propose", False
        elif task.approved is not None and task.approval is not None:
            self.done.append(Done(task, task.approval["action"], task.approved))
        else:
            self.done.append(Done(task, task.action, task.inputs))
        return run

    def result(self, task: Dispatch, outcome: Outcome, **more: Any) -> Result:
        if self.purse is not None and outcome in (Outcome.OK, Outcome.FAILED) and self.purse.random() < 0.5:
            more["usage"] = {"input_tokens": self.purse.choice((10, 100)), "cost_usd": 0.01}
        return super().result(task, outcome, **more)

    def end(self, run: Run) -> list[Result]:
        if run.over or run.act != "propose":
            return super().end(run)
        run.over, task, rng = True, run.task, self.gates
        c = self.claims.get(task.effect_key)
        if c is not None and c.attempt == task.attempt and c.state == "INTENT":
            c.state = "FAILED"  # it has not acted; its next attempt may
        action, args = rng.choice(PROPOSED), {"amount": rng.choice(AMOUNTS)}
        if task.approved is not None and task.approval is not None and rng.random() < 0.5:
            action, args = task.approval["action"], task.approved
        said = ProposedAction(
            action=action,
            args=args,
            reversible=rng.choice((None, True, False)),
            confidence=rng.choice((None, 0.2, 0.9)),
            requires_confirmation=rng.choice((None, None, False, True)),
        )
        return [self.result(task, Outcome.PROPOSED, proposed=said)]


class GatedWorld(World):
    """A world with gates."""

    def __post_init__(self) -> None:
        self.gates = Random(f"gates {self.seed}")
        self.purse = Random(f"purse {self.seed}") if self.seed % 3 == 1 else None
        super().__post_init__()
        self.agents = GatedAgents(self.rng, CALM if self.calm else ROUGH)
        self.agents.gates, self.agents.proposers, self.agents.done = self.gates, {}, []
        self.agents.purse = self.purse
        self.versions = 0
        self.policies = self._policies()
        for _ in range(self.gates.choice((0, 1, 2, 4))):
            self.later(self.gates.randint(0, 40_000), "policy", None)

    @property
    def done(self) -> list[Done]:
        """What was done."""
        assert isinstance(self.agents, GatedAgents)
        return self.agents.done

    def draw(self, size: int | None, prefix: str = "n") -> dict[str, Any]:
        plan, rng = super().draw(size, prefix), self.gates
        for node in plan["nodes"]:
            node["inputs"]["amount"] = rng.choice(AMOUNTS)
            if node["depends_on"] and rng.random() < 0.2:
                source = rng.choice(node["depends_on"])
                node["inputs"]["amount"] = {"$from": f"nodes.{source}.output.n", "default": 500}
            if rng.random() < 0.15:
                node["inputs"]["requires_confirmation"] = rng.random() < 0.5
            if rng.random() < 0.35:
                on_reject = rng.choice(("skip", "skip", "branch", "fail", "compensate"))
                node["gate"] = {"decide": rng.choice(("always", "policy", "policy")), "on_reject": on_reject}
            if rng.random() < 0.1:
                node["untrusted"] = True
            if self.purse is not None and self.purse.random() < 0.3:
                node["may_add_nodes"] = 2  # more that comes after a skip
            if "resolutions" in node and rng.random() < 0.5:
                node["resolutions"] = [*node["resolutions"], RETRY_AMOUNT]
            elif "gate" in node and "expiry" not in node and rng.random() < 0.4:
                node["resolutions"] = [RETRY_AMOUNT, SKIP]
            if "gate" in node and not {"expiry", "resolutions"} & set(node) and rng.random() < 0.4:
                pressed = rng.choice(("RES_APPROVE", "RES_REJECT"))
                node["expiry"] = {"after_s": rng.choice((5.0, 60.0)), "action_id": pressed}
        return plan

    def _policies(self) -> Policies:
        """Two policies at random, of rules of one form: who or nobody in particular, what, and above which amount."""
        rng = self.gates
        self.versions += 1
        found: list[Policy] = []
        for name in ("bank", "house"):
            rules: list[dict[str, Any]] = []
            for i in range(rng.choice((0, 1, 2, 3))):
                match: dict[str, Any] = {"action": rng.choice(("act", "act", *PROPOSED))}
                if rng.random() < 0.5:
                    match["agent"] = rng.choice(AGENTS)
                if rng.random() < 0.7:
                    match["args.amount"] = {"gt": rng.choice((1, 20, 100, 1000))}
                rules.append({"id": f"r{i}", "match": match, "decide": rng.choices(DECIDES, (2, 4, 3, 4))[0]})
            body: dict[str, Any] = {"name": name, "version": self.versions, "rules": rules}
            if self.purse is not None and self.purse.random() < 0.5:
                body["budget"] = self.purse.choice(({"tokens": 1}, {"tokens": 150}, {"tokens": 400}, {"usd": 0.02}))
            found.append(Policy.model_validate(body))
        return Policies.of(found, self.versions)

    def typed(self, name: str) -> Any:
        return self.gates.choice(AMOUNTS[:4]) if name == "amount" else super().typed(name)

    def _happen(self, kind: str, payload: Any) -> None:
        if kind == "policy":
            self.policies = self._policies()
        else:
            if kind == "end" and payload.task.approval is not None and self.gates.random() < 0.3:
                self.policies = self._policies()
            super()._happen(kind, payload)

    def _with_nodes(self, run: Run, results: list[Result]) -> list[Result]:
        node = self.state.nodes.get(run.task.node_id)
        for r in super()._with_nodes(run, results):
            if r.nodes and node is not None and self.state.planned:
                known = {k: n.spec for k, n in self.state.nodes.items()}
                mark_tainted(r.nodes, known, all_=node.spec.untrusted or node.spec.tainted)
        return results

    def _operate(self, pause_id: str) -> None:
        pause = self.state.pauses.get(pause_id)
        if pause is not None and (pause.then or {}).get("budget") and self.purse is not None:
            self.presses += 1
            often = (6, 1, 5, 1) if self.presses <= 40 else (0, 1, 1, 1)
            buttons = [r["action_id"] for r in pause.data["available_resolutions"]]
            pressed = self.purse.choices(buttons, often)[0]
            more = self.purse.choice((1, 100)) if pressed == "RES_RAISE_BUDGET" else None
            self.give(Decision(pause_id, pressed, more, actor="ada"))
            return
        if pause is None or pause.kind != "gate":
            super()._operate(pause_id)
            return
        self.presses += 1
        rng = self.gates
        chosen = rng.choices(("RES_APPROVE", "RES_EDIT", "RES_REJECT"), (5, 3, 2))[0]
        if self.presses > 40:
            chosen = "RES_REJECT"
        edited = None
        if chosen == "RES_EDIT":
            edited = {**pause.data["proposed_action"]["args"], "amount": rng.choice(AMOUNTS)}
        self.give(Decision(pause_id, chosen, edited, actor="ada"))


__all__ = ["T0", "Done", "GatedAgents", "GatedWorld"]
