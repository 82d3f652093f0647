"""What a workflow has spent on models, and what people have added to its budget: folded from its rows."""

from __future__ import annotations

from typing import Any

from handrail_engine.state import WorkflowState

COUNTED = ("input_tokens", "output_tokens", "cost_usd")


def spend(s: WorkflowState, usage: Any) -> None:
    """Adds what an attempt took; what is no number is not counted."""
    said: dict[str, Any] = usage if isinstance(usage, dict) else {}
    took = {
        "tokens": _number(said.get("input_tokens")) + _number(said.get("output_tokens")),
        "usd": _number(said.get("cost_usd")),
    }
    for name, more in took.items():
        if more:
            s.spent[name] = round(s.spent.get(name, 0) + more, 9)


def grant(s: WorkflowState, said: dict[str, Any]) -> None:
    """What a person has decided about the budget."""
    s.unbounded = s.unbounded or bool(said.get("off"))
    s.no_more = s.no_more or bool(said.get("stop"))
    for name, more in said.get("more", {}).items():
        s.granted[name] = s.granted.get(name, 0) + more


def _number(value: Any) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return value if fits else 0
