"""Decisions as examples to learn from: `sft` (what should be done or said), `preference` (what is better than what), `eval` (what
a person decided). Only what a person decided is a label: a deadline that passed, or a pause that was closed by something else,
says nothing about the action."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts.marked import scrubbed, secrets

_SILENT = frozenset({"expired", "superseded", "cancelled"})


def example(form: str, line: dict[str, Any], pause: dict[str, Any], given: Any) -> dict[str, Any] | None:
    """The decision `line` on `pause` in this form; None where it is no example of it. `given` is what the person entered."""
    if line["outcome"] in _SILENT or str(line["actor"]).startswith("system"):
        return None
    made = {"sft": _sft, "preference": _preference, "eval": _eval}[form](line, pause, given)
    return None if made is None else scrubbed(made, secrets(pause, given))


def _sft(line: dict[str, Any], pause: dict[str, Any], given: Any) -> dict[str, Any] | None:
    """Messages that end with what should have been done or said."""
    if line["outcome"] == "responded":
        said = [{"role": _role(m), "content": str(m.get("text", ""))} for m in pause.get("transcript") or ()]
        return {"messages": [*said, {"role": "assistant", "content": str(given)}], **_whence(line)}
    if line["outcome"] not in ("approved", "edited"):
        return None
    target = orjson.dumps({"action": line["action"], "args": line["final"]}).decode()
    question = {"role": "user", "content": _prompt(line, pause)}
    return {"messages": [question, {"role": "assistant", "content": target}], **_whence(line)}


def _preference(line: dict[str, Any], pause: dict[str, Any], given: Any) -> dict[str, Any] | None:
    """A pair: what a person made of it, and what was proposed."""
    if line["outcome"] not in ("edited", "rejected") or line["proposed"] is None:
        return None
    proposed = {"action": line["action"], "args": line["proposed"]}
    better: dict[str, Any] = {"action": line["action"], "args": line["final"]}
    if line["outcome"] == "rejected":
        better = {"action": None, "reason": line["comment"]}
    elif better == proposed:
        return None  # what was changed does not leave
    return {"prompt": _prompt(line, pause), "chosen": better, "rejected": proposed, **_whence(line)}


def _eval(line: dict[str, Any], pause: dict[str, Any], given: Any) -> dict[str, Any] | None:
    """The case, and what a person decided."""
    return {
        "id": line["decision_id"],
        "input": {**_case(line, pause), "proposed": line["proposed"]},
        "expected": {"decision": line["outcome"], "args": line["final"], "comment": line["comment"]},
        **_whence(line),
    }


def _prompt(line: dict[str, Any], pause: dict[str, Any]) -> str:
    return orjson.dumps(_case(line, pause)).decode()


def _case(line: dict[str, Any], pause: dict[str, Any]) -> dict[str, Any]:
    """What was known before anybody decided; nothing of the proposal, which would give the answer away."""
    gate = line["kind"] == "gate"
    diff: dict[str, Any] = (pause.get("proposed_action") or {}).get("diff") or {}
    return {
        "kind": line["kind"],
        "blueprint": line["blueprint"],
        "agent": line["agent"],
        "action": line["action"],
        "context": pause.get("context_snapshot") or {},
        "reason": (pause.get("risk") or {}).get("reason") if gate else pause["failure_reason"],
        "before": diff.get("before"),
    }


def _whence(line: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {k: line[k] for k in ("decision_id", "trace_id", "decided_at", "policy", "later")}}


def _role(message: dict[str, Any]) -> str:
    return "user" if message.get("role") in ("user", "customer") else "assistant"
