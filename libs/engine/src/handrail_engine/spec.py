"""A compiled node as the engine reads it: what `plan.compile_plan` wrote, immutable. Another takes its place only where a node
is appended again after a rollback (`appended.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.plan import EffectClass, OnExhausted, PauseScope, RetryPolicy, Timeouts
from handrail_engine.references import FROM, Reference, parse, references

_DEFAULT_RETRY = RetryPolicy()
_DEFAULT_UNDO_RETRY = RetryPolicy(max_attempts=3)
_DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Undoing:
    """How a node is undone."""

    action: str
    retry: RetryPolicy
    timeouts: Timeouts


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A compiled node, immutable."""

    id: str
    agent: str
    action: str
    depends_on: tuple[str, ...]
    inputs: dict[str, Any]
    refs: dict[str, tuple[Reference, bool]]  # text -> parsed, and whether it may be missing
    when: dict[str, Any] | None
    context: dict[str, str]
    retry: RetryPolicy
    timeouts: Timeouts
    effect_class: EffectClass
    undoing: Undoing | None
    resolutions: tuple[dict[str, Any], ...]
    on_exhausted: OnExhausted
    expiry: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    optional: bool
    irreversible: bool
    pause_scope: PauseScope | None
    savepoint: bool
    may_add_nodes: int
    gate: dict[str, Any] | None
    outside: bool  # its agent is not ours: nothing is sent to it
    undo_of: dict[str, Any] | None  # it undoes an effect of another workflow: `effect_key`, `inputs`
    proposal: dict[str, Any]
    args_schema: dict[str, Any] | None
    untrusted: bool
    tainted: bool
    compiled: dict[str, Any] = field(repr=False)


def node_spec(c: dict[str, Any], node_ids: Mapping[str, Any]) -> NodeSpec:
    """Reads what `plan.compile_plan` wrote. `node_ids` are all ids that a reference may name."""
    inputs = c.get("inputs", {})
    refs: dict[str, tuple[Reference, bool]] = {}
    for r in references(inputs) if inputs else ():
        text, known = r[FROM], refs.get(r[FROM])
        refs[text] = (known[0] if known else parse(text, node_ids), "default" in r and (known is None or known[1]))
    when = c.get("when")
    if when is not None:
        refs.setdefault(when["ref"], (parse(when["ref"], node_ids), True))
    undo = c.get("compensation")
    timeouts = Timeouts.model_validate(c["timeouts"]) if "timeouts" in c else _DEFAULT_TIMEOUTS
    undoing = None
    if isinstance(undo, dict):
        undoing = Undoing(
            undo.get("action") or c["action"],
            RetryPolicy.model_validate(undo["retry"]) if "retry" in undo else _DEFAULT_UNDO_RETRY,
            Timeouts.model_validate(undo["timeouts"]) if "timeouts" in undo else timeouts,
        )
    return NodeSpec(
        id=c["id"],
        agent=c["agent"],
        action=c["action"],
        depends_on=tuple(c.get("depends_on", ())),
        inputs=inputs,
        refs=refs,
        when=when,
        context=c.get("context", {}),
        retry=RetryPolicy.model_validate(c["retry"]) if "retry" in c else _DEFAULT_RETRY,
        timeouts=timeouts,
        effect_class=EffectClass(c.get("effect_class", "pure")),
        undoing=undoing,
        resolutions=tuple(c.get("resolutions") or ()),
        on_exhausted=OnExhausted(c.get("on_exhausted", "pause")),
        expiry=c.get("expiry"),
        output_schema=c.get("output_schema"),
        optional=c.get("optional", False),
        irreversible=c.get("irreversible", False),
        pause_scope=PauseScope(c["pause_scope"]) if c.get("pause_scope") else None,
        savepoint=c.get("savepoint", False),
        may_add_nodes=c.get("may_add_nodes", 0),
        gate=c.get("gate"),
        outside=c.get("outside", False),
        undo_of=c.get("undo_of"),
        proposal=c.get("proposal", {}),
        args_schema=c.get("args_schema"),
        untrusted=c.get("untrusted", False),
        tainted=c.get("tainted", False),
        compiled=c,
    )
