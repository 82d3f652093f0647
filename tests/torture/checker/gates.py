"""What gates promise, judged over a journal and over what really happened: nothing guarded happens undecided.

The journal says what was asked and answered; the ledger says, by its answers, which action was done with which arguments; and
standing rules say what had to be asked, whatever the journal says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from handrail_contracts.policy import action_digest
from handrail_engine.spec import NodeSpec
from tests.torture.checker.history import Effect, Entry

_ASKS = ("always", "uncertain")
_YES = ("RES_APPROVE", "RES_EDIT")
By = dict[str, str]  # digest of an action -> the word that it was let pass by: person, silence or rule


class Gates:
    """One workflow. `allowed`: node -> what was let happen there, ever; `faults`: what the journal itself breaks."""

    def __init__(self, rows: list[Entry], specs: Mapping[str, NodeSpec]) -> None:
        self.allowed: dict[str, By] = defaultdict(dict)
        self.faults: list[tuple[str, str]] = []
        self._specs = specs
        self._answers: dict[str, By] = defaultdict(dict)  # what still counts of what was answered
        self._verdicts: dict[str, tuple[str, str]] = {}  # of the plan's own action: word, digest
        self._open: dict[str, dict[str, Any]] = {}
        self._refused: set[str] = set()
        for r in rows:
            self._row(r)

    def _row(self, r: Entry) -> None:
        d = r.data
        if r.type == "GATE_EVALUATED":
            self._judged(r)
        elif r.type == "WORKFLOW_PAUSED_HITL" and d["kind"] == "gate":
            self._open[d["pause_id"]] = d
        elif r.type == "HITL_RESOLVED" and d["pause_id"] in self._open:
            self._answered(self._open.pop(d["pause_id"]), d)
        elif r.type == "NODE_STATE_CHANGED" and d["to"] == "PENDING":
            self._answers.pop(d["node_id"], None)
            self._verdicts.pop(d["node_id"], None)
            self._refused.discard(d["node_id"])
        elif r.type == "NODE_STATE_CHANGED" and d["to"] == "SCHEDULED" and not (r.meta or {}).get("look_up"):
            self._dispatched(r)

    def _judged(self, r: Entry) -> None:
        node_id, meta = r.data["node_id"], r.meta or {}
        word, digest = meta["judged"][0], meta["judged"][5]
        if "sets" in meta:
            self._answers.pop(node_id, None)
        if word == "never":
            self.allowed[node_id].setdefault(digest, "rule")
        if r.data["inputs"]["action"] == self._specs[node_id].action:
            self._verdicts[node_id] = (word, digest)

    def _answered(self, pause: dict[str, Any], d: dict[str, Any]) -> None:
        node_id, shown = pause["node_id"], pause["proposed_action"]
        if d["action_id"] == "RES_REJECT":
            self._refused.add(node_id)
        if d["action_id"] in _YES:
            digest = shown["digest"] if d["action_id"] == "RES_APPROVE" else action_digest(shown["action"], d["input"])
            by = "silence" if d["outcome"] == "expired" else "person"
            self._answers[node_id][digest] = by
            if shown["action"] == self._specs[node_id].action and node_id in self._verdicts:
                self._verdicts[node_id] = (self._verdicts[node_id][0], digest)  # from now on about what was edited
            if self.allowed[node_id].get(digest) != "person":
                self.allowed[node_id][digest] = by

    def _dispatched(self, r: Entry) -> None:
        node_id = r.data["node_id"]
        spec, where = self._specs[node_id], f"{r.trace_id}/{node_id}"
        if "sets" in (r.meta or {}):
            self._answers.pop(node_id, None)
        if node_id in self._refused:
            self.faults.append((where, f"row {r.seq} sends what was refused"))
        if spec.gate is None or spec.undo_of is not None:
            return  # a policy may have come to say nothing, and that is not journaled where the plan has no gate
        if (verdict := self._verdicts.get(node_id)) is None:
            self.faults.append((where, f"row {r.seq} sends it, and its gate never judged it"))
            return
        word, digest = verdict
        by = self._answers[node_id].get(digest)
        if word == "forbid" or (word in _ASKS and (by is None or (by == "silence" and word == "always"))):
            self.faults.append((where, f"row {r.seq} sends it: the gate says {word}, and who let it pass is {by}"))


def done(spec: NodeSpec, e: Effect) -> tuple[str, dict[str, Any]] | None:
    """Action and arguments of an effect, where its answer tells them: of the simulator's script without an output of its own,
    and of the teller."""
    if not isinstance(e.answer, dict):
        return None
    if (spec.agent, spec.action) == ("simulator", "script") and "output" not in spec.inputs:
        return spec.action, e.answer
    if spec.agent == "teller":
        return e.answer["action"], e.answer["args"]
    return None


def faults(
    rows: list[Entry], specs: Mapping[str, NodeSpec], effects: list[Effect], standing: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """(where, what) of everything in one workflow that happened, or was sent, without having been let pass."""
    gates = Gates(rows, specs)
    yield from gates.faults
    for e in effects:
        spec = specs.get(e.node_id)
        what = done(spec, e) if spec is not None and e.kind == "do" else None
        if spec is None or what is None:
            continue
        action, args = what
        by = gates.allowed[e.node_id].get(action_digest(action, args))
        if by is None and (spec.gate is not None or action != spec.action):
            yield e.effect_key, f"{action} {args} happened, and nobody let it pass"
        for rule in standing:
            above = rule["match"].get("args.amount", {}).get("gt")
            amount = args.get("amount")
            if rule["match"]["action"] != action or above is None or not isinstance(amount, int) or amount <= above:
                continue
            if rule["decide"] == "forbid" or (rule["decide"] == "always" and by != "person"):
                yield e.effect_key, f"{action} {args} happened by {by}, and rule {rule['id']} says {rule['decide']}"
