"""How a proposed action is shown: one plain sentence, what it changes, the form in which its arguments are edited."""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from typing import Any

from handrail_contracts.policy import ARGS, action_digest
from handrail_contracts.tasks import ProposedAction
from handrail_engine.evidence import clip
from handrail_engine.policies import Facts
from handrail_engine.references import MISSING, BadReference, dig, parse
from handrail_engine.state import NodeState, WorkflowState

SUMMARY_CHARS = 500
_VALUE_CHARS = 120
_LONG_BYTES = 2_048
_LARGEST = sys.float_info.max
_MOST_WHOLE = 2**53
"""A larger integer is none to many a reader of JSON: a sum beyond it is shown as a float."""
_HOLE = re.compile(r"\{([A-Za-z0-9_.-]+)(?::\.([0-6])f)?\}")


def as_written(s: WorkflowState, node: NodeState, f: Facts) -> dict[str, Any]:
    """The action of a plan's node as a person is shown it, by what gate and agent declare."""
    about = {**node.spec.proposal, **(node.spec.gate or {})}
    summary = sentence(about["summary"], f.args) if about.get("summary") else _plainly(f)
    diff = about.get("diff")
    shown = {side: _worked_out(s, diff.get(side) or {}, f.args) for side in ("before", "after")} if diff else None
    return _action(f, summary, shown, action_digest(f.action, f.args))


def as_proposed(p: ProposedAction, f: Facts, digest: str) -> dict[str, Any]:
    """The action that an agent proposes as a person is shown it."""
    diff = {side: p.diff.get(side) for side in ("before", "after")} if p.diff else None
    return _action(f, clip(p.summary, SUMMARY_CHARS) or _plainly(f), diff, digest)


def _action(f: Facts, summary: str, diff: dict[str, Any] | None, digest: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": f.action,
        "args": f.args,
        "summary": summary,
        "diff": diff,
        "reversible": f.reversible,
        "digest": digest,
    }
    more = {"affected": f.affected, "domain": f.domain}
    return {**shown, **{k: v for k, v in more.items() if v is not None}}


def sentence(template: str, args: dict[str, Any]) -> str:
    """A template with `{name}` and `{name:.2f}` filled from the arguments; what is missing stays a `?`."""

    def fill(hole: re.Match[str]) -> str:
        value = dig(args, tuple(hole[1].split(".")))
        if value is MISSING:
            return "?"
        if hole[2] is not None and _is_number(value):
            return f"{value:.{hole[2]}f}"
        return clip(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _VALUE_CHARS)

    return clip(_HOLE.sub(fill, template), SUMMARY_CHARS)


def _plainly(f: Facts) -> str:
    told = ", ".join(f"{k}: {{{k}}}" for k in list(f.args)[:6] if _HOLE.fullmatch(f"{{{k}}}"))
    return sentence(f"{f.agent}: {f.action}" + (f" ({told})" if told else ""), f.args)


def _worked_out(s: WorkflowState, values: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(s, v, args) for name, v in values.items()}


def _value(s: WorkflowState, v: Any, args: dict[str, Any]) -> Any:
    """A value of a diff: `{"$from": path}`, `{"$plus": [a, b]}`, `{"$minus": [a, b]}`, or as it stands; null where it cannot
    be worked out."""
    if not isinstance(v, dict) or len(v) != 1:
        return v
    (op, given), *_ = v.items()
    if op == "$from":
        return _found(s, given, args)
    if op not in ("$plus", "$minus"):
        return v
    numbers = [_value(s, x, args) for x in given] if isinstance(given, list) else []
    if len(numbers) != 2 or not all(_is_number(n) for n in numbers):
        return None
    a, b = (Decimal(str(n)) for n in numbers)
    total = a + b if op == "$plus" else a - b
    whole = total == total.to_integral_value() and abs(total) <= _MOST_WHOLE
    shown = int(total) if whole else float(total)
    return shown if _is_number(shown) else None


def _is_number(v: Any) -> bool:
    """True for a number that a float can hold; one of an agent's answer may have any number of digits."""
    return isinstance(v, int | float) and not isinstance(v, bool) and -_LARGEST <= v <= _LARGEST


def _found(s: WorkflowState, text: Any, args: dict[str, Any]) -> Any:
    if isinstance(text, str) and text.startswith(ARGS):
        found = dig(args, tuple(text[len(ARGS) :].split(".")))
    else:
        try:
            ref = parse(text, s.nodes)
        except BadReference:
            return None
        found = dig(s.input if ref.node_id is None else s.nodes[ref.node_id].output, ref.path)
    return None if found is MISSING else found


def affected_by(declared: Any, args: dict[str, Any]) -> float | None:
    """How many things an action touches: a number, or `args.<path>` of a number or a list."""
    if isinstance(declared, str) and declared.startswith(ARGS):
        found = dig(args, tuple(declared[len(ARGS) :].split(".")))
        if isinstance(found, list):
            return len(found)
        declared = found
    if isinstance(declared, bool) or not isinstance(declared, int | float):
        return None
    return declared


def edit_schema(declared: dict[str, Any] | None, args: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema that edited arguments must fit: the action's own, else one read from the arguments; types are kept,
    nothing may be added."""
    if declared is not None and declared.get("type") == "object" and "properties" in declared:
        fields = {k: _one_number(v) for k, v in declared["properties"].items()}
        return {**declared, "properties": fields, "additionalProperties": False}
    properties = {k: _schema_of(v) for k, v in args.items()}
    return {"type": "object", "properties": properties, "required": list(args), "additionalProperties": False}


def _one_number(field: Any) -> Any:
    """`int | float` as the number that it is, so that a form has one field for it."""
    any_of = field.get("anyOf") if isinstance(field, dict) else None
    if not any_of or not all(isinstance(x, dict) and x.get("type") in ("integer", "number") for x in any_of):
        return field
    merged = {k: v for x in [*any_of, field] for k, v in x.items() if k != "anyOf"}
    return {**{_LIMITS.get(k, k): v for k, v in merged.items()}, "type": "number"}


_LIMITS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
"""Pydantic writes the limits of a union of numbers by their Python names, which JSON Schema does not know."""


def _schema_of(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int | float):
        return {"type": "number"}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, list):
        return {"type": "array"}
    return {"type": "object"}


def shortened(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments with long values cut to a preview, for where they need not stand whole."""
    return {k: _short(v) for k, v in list(args.items())[:100]}


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    size = len(text.encode("utf-8", "surrogatepass"))
    return value if size <= _LONG_BYTES else {"bytes": size, "preview": text[:200]}
