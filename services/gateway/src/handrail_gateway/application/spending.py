"""What a workflow has spent on models, and how far it may go before a person is asked (ADR 0029)."""

from __future__ import annotations

from typing import Any

from handrail_engine.budgets import declared
from handrail_engine.policies import Policies
from handrail_engine.state import WorkflowState


def spending(state: WorkflowState, policies: Policies) -> dict[str, dict[str, Any]]:
    """Name (`tokens`, `usd`) -> `spent` and `limit`, of what is spent or limited; the narrowest limit, with what people have
    added, null where there is none or a person has lifted it."""
    limits: dict[str, float] = {}
    for each in declared(state, policies) if not state.unbounded else ():
        for name, most in each.items():
            limits[name] = min(limits.get(name, most), most)
    return {
        name: {
            "spent": state.spent.get(name, 0),
            "limit": limits[name] + state.granted.get(name, 0) if name in limits else None,
        }
        for name in ("tokens", "usd")
        if name in limits or name in state.spent
    }
