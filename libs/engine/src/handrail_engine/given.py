"""What a node works with, as far as it is known: the very inputs that its task carries, shown to a person."""

from __future__ import annotations

from typing import Any

from handrail_engine.lifecycle import SETTLED
from handrail_engine.outgoing import inputs_of, look_up, unusable_inputs
from handrail_engine.references import FROM, references, resolve
from handrail_engine.state import NodeState, WorkflowState


def given(s: WorkflowState, node: NodeState) -> dict[str, Any]:
    """`{node_id, agent, action, effect_class, inputs, unresolved, overridden, edited}`. A reference to a node that has not
    settled, or that stands for all of the inputs and leads to no object, stands in `inputs` as it is written, and its text
    in `unresolved`."""
    spec = node.spec
    waiting = [text for text in dict.fromkeys(str(r[FROM]) for r in references(spec.inputs)) if _waits(s, node, text)]
    if waiting and node.attempt == 0:
        looked = resolve(spec.inputs, lambda text: {FROM: text} if text in waiting else look_up(s, node, text))
        inputs = {**looked, **node.overrides}
    else:
        inputs, waiting = inputs_of(s, node), []
        if unusable_inputs(s, node) is not None:
            inputs, waiting = spec.inputs, [spec.inputs[FROM]]
    return {
        "node_id": spec.id,
        "agent": spec.agent,
        "action": spec.action,
        "effect_class": spec.effect_class.value,
        "inputs": inputs,
        "unresolved": waiting,
        "overridden": sorted(node.overrides),
        "edited": node.approved is not None and node.approved["args"] is not None,
    }


def _waits(s: WorkflowState, node: NodeState, text: str) -> bool:
    known = node.spec.refs.get(text)
    if known is None or known[0].node_id is None:
        return False
    source = s.nodes[known[0].node_id]
    return source.output is None and source.state not in SETTLED
