"""What clients of a simulated world order: plans of every shape, intents that a planner knows, and the policies in force.

A world has gates or it has none, and lets plans be made or does not: worlds without them stay as quick as they were.
"""

from __future__ import annotations

from random import Random
from typing import Any

from handrail_agents.catalog.planner import RecordedPlan
from handrail_contracts.ids import digest
from handrail_contracts.plan import Plan
from handrail_contracts.policy import Policy
from handrail_engine.plan import compile_plan, validate
from tests.torture.sim.database import Database

_OUTCOMES = (
    ["ok"], ["ok"], ["ok"], ["error:FLAKY", "ok"], ["error:BROKEN"], ["fatal:NO"], ["hang", "ok"], ["late:2500"],
    ["late:6000", "ok"], ["garbage", "ok"], ["escalate:please"], ["escalate:please", "ok"], ["hang"],
)  # fmt: skip
_UNDOS = (["ok"], ["ok"], ["ok"], ["error:STUCK", "ok"], ["error:STUCK"], ["hang", "ok"])
AMOUNTS = (5, 50, 50, 500, 5_000)
RETRY = {"action_id": "RES_RETRY", "display_text": "Again", "kind": "retry"}
SKIP = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
ABORT = {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate"}
BACK = {"action_id": "RES_BACK", "display_text": "Back to the savepoint", "kind": "compensate", "scope": "savepoint"}
PRUNE = {"action_id": "RES_PRUNE", "display_text": "Without this branch", "kind": "compensate", "scope": "subtree"}
RETRY_AMOUNT = {
    "action_id": "RES_AMOUNT",
    "display_text": "With another amount",
    "kind": "retry",
    "sets": "amount",
    "requires_input": True,
    "input_schema": "number",
}
_OWN_BUTTONS = ([PRUNE, SKIP, ABORT], [BACK, SKIP, ABORT], [BACK, PRUNE, RETRY, SKIP])
_EXPIRIES = ("RES_SKIP", "RES_ABORT_SAGA")

STANDING: list[dict[str, Any]] = [
    {"id": "large", "match": {"action": "transfer", "args.amount": {"gt": 100}}, "decide": "always"},
    {"id": "small", "match": {"action": "transfer", "args.amount": {"le": 100}}, "decide": "never"},
    {"id": "huge", "match": {"action": "transfer", "args.amount": {"gt": 1_000}}, "decide": "forbid"},
    {"id": "script-large", "match": {"action": "script", "args.amount": {"gt": 1_000}}, "decide": "always"},
]
"""Rules that hold from the first to the last moment of a world with gates: what they want needs no journal to be known."""


class Plans:
    """Draws from `rng`. `gated` and `planned` say what this world has."""

    def __init__(self, rng: Random, seed: int) -> None:
        self.rng = rng
        dice = Random(f"kinds of {seed}")
        self.gated = dice.random() < 0.35
        self.planned = dice.random() < 0.15
        self.partial = dice.random() < 0.35
        self.keyless = dice.random() < 0.3
        self._versions = 0
        self.recordings = [self._recording(f"Do errand {i}", dice) for i in range(3)] if self.planned else []

    # plans by clients

    def draw(self, registry: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
        rng = self.rng
        nodes: list[dict[str, Any]] = []
        for i in range(rng.choice((1, 2, 3, 3, 4, 5))):
            before = [n["id"] for n in nodes]
            nodes.append(self._node(f"n{i}", sorted(rng.sample(before, min(len(before), rng.choice((0, 1, 1, 2)))))))
        plan = Plan.model_validate({"nodes": nodes})
        assert not (wrong := validate(plan, registry)), wrong
        return compile_plan(plan, registry)

    def _node(self, id_: str, after: list[str]) -> dict[str, Any]:
        rng = self.rng
        node: dict[str, Any] = {
            "id": id_,
            "agent": "simulator",
            "action": "script",
            "depends_on": after,
            "effect_class": rng.choices(("idempotent", "queryable", "unsafe", "pure"), (6, 2, 1, 1))[0],
            "retry": {
                "max_attempts": rng.choice((2, 3, 4)),
                "initial_delay_s": rng.choice((0.0, 0.2)),
                "max_delay_s": 1,
            },
            "timeouts": {"lease_s": rng.choice((1.0, 2.0)), "start_to_close_s": 8.0, "schedule_to_start_s": 40.0},
            "inputs": {
                "outcomes": rng.choice(_OUTCOMES),
                "output": {"from": id_},
                "duration_ms": rng.choice((0, 0, 5, 80, 400)),
                "undo": rng.choice(_UNDOS),
                "undo_duration_ms": rng.choice((0, 0, 100)),
            },
            "on_exhausted": rng.choices(("pause", "skip", "compensate", "fail"), (10, 2, 3, 1))[0],
        }
        if rng.random() < 0.1:
            node["optional"] = True
        if rng.random() < (0.3 if self.partial else 0.1):
            node["savepoint"] = True
        if rng.random() < 0.1:
            node["irreversible"] = True
        else:
            node["compensation"] = {
                "retry": {"max_attempts": 2, "initial_delay_s": 0.2},
                "timeouts": {"lease_s": 1.0, "start_to_close_s": 8.0, "schedule_to_start_s": 40.0},
            }
        if rng.random() < 0.15:
            node["expiry"] = {"after_s": rng.choice((1.0, 4.0)), "action_id": rng.choice(_EXPIRIES)}
        if self.partial and rng.random() < 0.8:
            node["resolutions"], node["on_exhausted"] = rng.choice(_OWN_BUTTONS), "pause"
            offered = [r["action_id"] for r in node["resolutions"]]
            if "expiry" in node and node["expiry"]["action_id"] not in offered:
                node["expiry"]["action_id"] = "RES_SKIP"
        if self.keyless and rng.random() < 0.4:  # a provider without keys: whoever declares that honestly says unsafe
            node["effect_class"], node["inputs"]["keyless"] = "unsafe", True
        if self.gated:
            self._gate(node)
        return node

    def _gate(self, node: dict[str, Any]) -> None:
        """Guards a node of the plan, or gives it to an agent that proposes. It answers with its arguments, so that the
        ledger tells what was done."""
        rng, inputs = self.rng, node["inputs"]
        inputs["amount"] = rng.choice(AMOUNTS)
        del inputs["output"]
        if rng.random() < 0.4 and not inputs.get("keyless"):
            node["agent"], node["action"], node["effect_class"] = "teller", "pay", "idempotent"
            inputs["amounts"] = [inputs.pop("amount"), *(rng.choice(AMOUNTS) for _ in range(rng.choice((0, 0, 1))))]
        if rng.random() < 0.5:
            on_reject = rng.choice(("skip", "skip", "branch", "fail", "compensate"))
            node["gate"] = {"decide": rng.choice(("always", "policy")), "on_reject": on_reject}
            if rng.random() < 0.5 and "resolutions" not in node:
                pressed = rng.choice(("RES_APPROVE", "RES_APPROVE", "RES_REJECT"))
                node["expiry"] = {"after_s": rng.choice((0.4, 2.0)), "action_id": pressed}
        if "resolutions" in node:
            node["resolutions"] = [*node["resolutions"], RETRY_AMOUNT]
        elif "expiry" not in node and rng.random() < 0.5:
            node["resolutions"] = [RETRY_AMOUNT, SKIP]

    # plans by a planner

    def intent(self) -> str | None:
        """One that goes to the planner, or None in a world where clients send plans."""
        if not self.planned or self.rng.random() < 0.5:
            return None
        return self.rng.choice([r.intent for r in self.recordings] + ["Do what nobody has recorded"])

    def _recording(self, intent: str, dice: Random) -> RecordedPlan:
        nodes: list[dict[str, Any]] = []
        for i in range(dice.choice((1, 2, 3))):
            amounts = [dice.choice(AMOUNTS)]
            who = dice.choice(("teller", "teller", "simulator"))
            inputs = {"amounts": amounts} if who == "teller" else {"amount": 5, "outcomes": ["error:FLAKY", "ok"]}
            node = {"id": f"m{i}", "agent": who, "action": "pay" if who == "teller" else "script", "inputs": inputs}
            nodes.append({**node, "depends_on": [f"m{i - 1}"] if i and dice.random() < 0.7 else []})
        if dice.random() < 0.2:
            nodes[-1]["agent"] = "ghost"  # nobody of that name was ever seen: the plan must be refused
        return RecordedPlan.model_validate({"intent": intent, "nodes": nodes})

    # policies

    def stand(self, db: Database) -> None:
        """Puts the standing rules into force, before anything else happens."""
        if self.gated or self.planned:
            _put(db, {"name": "standing", "version": 1, "rules": STANDING})

    def change(self, db: Database) -> None:
        """A new version of the other policy, of rules at random."""
        rng = self.rng
        self._versions += 1
        rules: list[dict[str, Any]] = []
        for i in range(rng.choice((0, 1, 2))):
            match = {
                "action": rng.choice(("script", "pay", "transfer")),
                "args.amount": {"gt": rng.choice((1, 20, 1_000))},
            }
            if match["action"] == "pay":
                del match["args.amount"]
            rules.append({"id": f"r{i}", "match": match, "decide": rng.choices(_DECIDES, (1, 4, 3, 2))[0]})
        _put(db, {"name": "house", "version": self._versions, "rules": rules})


_DECIDES = ("forbid", "always", "uncertain", "never")


def _put(db: Database, body: dict[str, Any]) -> None:
    policy = Policy.model_validate(body)
    db.policies.append((policy.name, (policy.version, None, body, digest(repr(body).encode()))))
