"""What a policy would have done: a candidate judged over what people decided, and exemptions that their decisions speak for.

Only gates' pauses are looked at: what passed without a person left no decision to learn from. `success_rate` is not known
for the past, so rules on it spare nobody here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from handrail_contracts.marked import marks, redacted
from handrail_contracts.pauses import PauseKind
from handrail_contracts.policy import Decide, Policy
from handrail_engine.policies import (
    CONFIRM_RULE,
    GATE_RULE,
    PROPOSED_RULE,
    UNCOVERED_RULE,
    Facts,
    Policies,
    judge,
)
from handrail_gateway.application import feedback
from handrail_gateway.application.approvals import facts_of
from handrail_gateway.application.ports import Views
from handrail_gateway.application.times import rfc3339

NAMED = 100
_PEOPLE = frozenset({"approved", "edited", "rejected"})


@dataclass(frozen=True, slots=True)
class Past:
    """One decision on a gate: what was known, and what came of it."""

    facts: Facts
    outcome: str
    line: dict[str, Any]
    pause: dict[str, Any]

    @property
    def rule(self) -> tuple[str | None, str | None]:
        """(policy, rule) that asked."""
        risk: dict[str, Any] = self.pause.get("risk") or {}
        return risk.get("policy"), risk.get("rule_id")


async def past(views: Views, tenant: str, since: datetime | None) -> AsyncIterator[Past]:
    """Every decision on a gate, oldest first. Raises StoreFault."""
    async for row in views.decisions(tenant, since, None, (PauseKind.GATE.value,)):
        pause: dict[str, Any] = orjson.loads(row["data"])
        if pause.get("proposed_action"):
            line = feedback.line(row, pause)
            yield Past(facts_of(pause, row["blueprint"]), line["outcome"], line, pause)


async def simulate(
    views: Views, tenant: str, in_force: Policies, candidate: Policy, since: datetime | None, now_ms: int
) -> dict[str, Any]:
    """What would have been asked, had `candidate` stood in the place of the policy of its name. Raises StoreFault."""
    others = [p for p in in_force.policies if p.name != candidate.name]
    policies = Policies.of([*others, candidate])
    total, asked, waited = 0, 0, 0.0
    spared: Counter[str] = Counter()
    slipped: list[dict[str, Any]] = []
    unedited: list[dict[str, Any]] = []
    forbidden: list[dict[str, Any]] = []
    async for p in past(views, tenant, since):
        total += 1
        verdict = _again(policies, p, now_ms)
        if verdict.asks:
            asked += 1
        elif verdict.decide is Decide.FORBID:
            if p.outcome in ("approved", "edited"):
                forbidden.append(_named(p, verdict.rule_id))
        else:
            spared[p.outcome] += 1
            waited += p.line["waited_s"]
            if p.outcome == "rejected":
                slipped.append(_named(p, verdict.rule_id))
            elif p.outcome == "edited":
                unedited.append(_named(p, verdict.rule_id))
    saved = total - asked
    share = round(saved / total, 3) if total else 0.0
    return {
        "policy": {"name": candidate.name, "version": candidate.version, "rules": len(candidate.rules)},
        "decisions": total,
        "interruptions": {"before": total, "after": asked, "saved": saved, "saved_share": share},
        "spared": {k: spared[k] for k in sorted(spared)},
        "waited_s_spared": round(waited, 3),
        "slipped": slipped[:NAMED],
        "unedited": unedited[:NAMED],
        "forbidden": forbidden[:NAMED],
    }


def _again(policies: Policies, p: Past, now_ms: int) -> Any:
    rule = p.rule[1]
    gate = {GATE_RULE: "always", UNCOVERED_RULE: "policy"}.get(rule or "")
    facts = p.facts
    if rule == PROPOSED_RULE:
        facts = replace(facts, proposed=True)
    return judge(policies, facts, now_ms, gate=gate, confirm=rule == CONFIRM_RULE)


def _named(p: Past, by: str | None) -> dict[str, Any]:
    """Which decision it is, so that a person can look it up."""
    shown = {k: p.line[k] for k in ("decision_id", "trace_id", "pause_id", "node_id", "outcome", "actor", "comment")}
    action: dict[str, Any] = p.pause["proposed_action"]
    args = redacted(p.facts.args, marks(p.pause))
    return {
        **shown,
        "decided_at": p.line["decided_at"],
        "action": p.facts.action,
        "args": args,
        **_why(action),
        "by": by,
    }


def _why(action: dict[str, Any]) -> dict[str, Any]:
    return {} if action.get("redact") else {"summary": action.get("summary")}


async def suggestions(
    views: Views, tenant: str, in_force: Policies, *, enough: int, days: int, since: datetime | None, now: datetime
) -> list[dict[str, Any]]:
    """Exemptions for which at least `enough` decisions, all of them approvals without a change, speak; each for `days`. Never for
    what cannot be undone, what follows content from outside, or rules of our own. Raises StoreFault."""
    groups: dict[tuple[str, str, str, str], list[Past]] = {}
    async for p in past(views, tenant, since):
        policy, rule = p.rule
        mine = p.outcome in _PEOPLE and not p.line["actor"].startswith("system")
        if mine and policy is not None and rule is not None and p.facts.reversible and not p.facts.untrusted:
            groups.setdefault((policy, rule, p.facts.agent, p.facts.action), []).append(p)
    found: list[dict[str, Any]] = []
    for (policy, rule, agent, action), decisions in groups.items():
        stands = next((p for p in in_force.policies if p.name == policy), None)
        if stands is None or all(r.id != rule or r.decide is Decide.FORBID for r in stands.rules):
            continue
        agreed = _unanimous(decisions, enough)
        if agreed is None:
            continue
        exemption = _exemption(agent, action, *agreed, until=now + timedelta(days=days))
        found.append(
            {
                "policy": policy,
                "rule_id": rule,
                "agent": agent,
                "action": action,
                "approvals": len(agreed[1]),
                "people": len({p.line["actor"] for p in agreed[1]}),
                "exemption": exemption,
                "candidate": _with(stands, rule, exemption),
            }
        )
    return sorted(found, key=lambda s: -s["approvals"])


def _unanimous(decisions: list[Past], enough: int) -> tuple[dict[str, Any], list[Past]] | None:
    """(what narrows them, decisions) that all are approvals: all of them, else those with one text argument in common."""
    if _all_approved(decisions, enough):
        return {}, decisions
    by_value: dict[tuple[str, str], list[Past]] = {}
    for p in decisions:
        for name, value in p.facts.args.items():
            if isinstance(value, str):
                by_value.setdefault((name, value), []).append(p)
    alike = [(key, group) for key, group in by_value.items() if _all_approved(group, enough)]
    if not alike:
        return None
    (name, value), group = max(alike, key=lambda a: len(a[1]))
    return {f"args.{name}": value}, group


def _all_approved(decisions: list[Past], enough: int) -> bool:
    return len(decisions) >= enough and all(p.outcome == "approved" for p in decisions)


def _exemption(
    agent: str, action: str, narrowed: dict[str, Any], agreed: list[Past], *, until: datetime
) -> dict[str, Any]:
    """No wider than what was approved: no number above the highest, no text that was not always the same."""
    match: dict[str, Any] = {"agent": agent, "action": action, "reversible": True, **narrowed}
    for name in sorted(set[str]().union(*(p.facts.args for p in agreed))):
        values: list[Any] = [p.facts.args.get(name) for p in agreed]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            match[f"args.{name}"] = {"ge": min(values), "le": max(values)}
        elif len({json.dumps(v) for v in values}) == 1 and isinstance(values[0], str | bool):
            match[f"args.{name}"] = values[0]
    first = min(p.line["decided_at"] for p in agreed)
    because = f"{len(agreed)} unanimous approvals since {first[:10]}"
    return {"match": match, "until": rfc3339(until), "because": because}


def _with(policy: Policy, rule_id: str, exemption: dict[str, Any]) -> dict[str, Any]:
    body = policy.model_dump(mode="json", exclude_unset=True)
    for rule in body["rules"]:
        if rule["id"] == rule_id:
            rule["unless"] = [*rule.get("unless", ()), exemption]
    return {**body, "name": policy.name, "version": policy.version + 1}
