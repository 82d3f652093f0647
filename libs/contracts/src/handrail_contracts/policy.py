"""How a policy is written down: which actions a person must approve, which never happen, which need nobody. Data, versioned.

A rule holds when all of its tests hold. Of the rules that hold the strongest counts: forbid > always > uncertain > never.
A test names a fact and compares it: `{"args.amount": {"gt": 100}}`; a bare value means `eq`. Facts are `agent`, `action`,
`args.<path>` (the arguments), `confidence`, `reversible`, `affected`, `domain`, `untrusted` and `success_rate`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from handrail_contracts.model import Door, ms_of
from handrail_contracts.plan import Budget

RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Decide(StrEnum):
    """What a rule says; from strongest to weakest. `always` and `uncertain` ask a person, `never` asks nobody."""

    FORBID = "forbid"
    ALWAYS = "always"
    UNCERTAIN = "uncertain"
    NEVER = "never"


STRENGTH: dict[Decide, int] = {Decide.FORBID: 3, Decide.ALWAYS: 2, Decide.UNCERTAIN: 1, Decide.NEVER: 0}
SCORES: dict[Decide, float] = {Decide.FORBID: 1.0, Decide.ALWAYS: 0.9, Decide.UNCERTAIN: 0.6, Decide.NEVER: 0.1}
"""How risky a rule takes an action to be when it does not say; 0 harmless to 1."""

FACTS: dict[str, type] = {
    "agent": str,
    "action": str,
    "domain": str,
    "confidence": float,
    "affected": float,
    "success_rate": float,
    "reversible": bool,
    "untrusted": bool,
}
"""fact -> the type of its value, besides `args.<path>`, which may hold any."""

RATE_FROM = 20
"""A share of fewer attempts says nothing: policies are told no `success_rate`, and neither is anybody else."""

OPERATORS = ("eq", "ne", "gt", "ge", "lt", "le", "in", "contains", "exists")
ORDERED = frozenset({"gt", "ge", "lt", "le"})
ARGS = "args."

Tests = tuple[tuple[str, str, Any], ...]
"""(fact, operator, wanted value), all of which must hold."""


def tests_of(match: dict[str, Any]) -> Tests:
    """A `match` as a list of tests. Raises ValueError with a sentence for the author."""
    found: list[tuple[str, str, Any]] = []
    for fact, wanted in match.items():
        _check_fact(fact)
        if not isinstance(wanted, dict):
            wanted = {"eq": wanted}
        if not wanted:
            raise ValueError(f"Expected a comparison of {fact!r}, such as {{eq: …}}, but it is empty.")
        for op, value in wanted.items():
            _check_test(fact, op, value)
            found.append((fact, op, value))
    return tuple(found)


def action_digest(action: str, args: dict[str, Any]) -> str:
    """What a decision is bound to: SHA-256 over the action and its arguments as sorted, compact JSON."""
    text = json.dumps({"action": action, "args": args}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Exemption(Door):
    """Where a rule does not hold, for a time. Made from many unanimous approvals (`handrail policy suggest`), or by hand;
    taken back by a version of the policy without it."""

    match: dict[str, Any] = Field(min_length=1)
    until: str
    because: str = ""

    @field_validator("match")
    @classmethod
    def _readable(cls, match: dict[str, Any]) -> dict[str, Any]:
        tests_of(match)
        return match

    @field_validator("until")
    @classmethod
    def _time(cls, until: str) -> str:
        return _checked_time(until)


class Rule(Door):
    """One rule. `four_eyes`: who started the workflow may not approve. `until` (RFC 3339): it holds no longer."""

    id: RuleId
    match: dict[str, Any] = Field(min_length=1)
    decide: Decide
    score: float | None = Field(default=None, ge=0, le=1)
    four_eyes: bool = False
    until: str | None = None
    because: str = ""
    unless: list[Exemption] = Field(default_factory=list[Exemption], max_length=100)

    @field_validator("until")
    @classmethod
    def _time(cls, until: str | None) -> str | None:
        return None if until is None else _checked_time(until)

    @model_validator(mode="after")
    def _makes_sense(self) -> Rule:
        tests = tests_of(self.match)
        named = any(fact in ("agent", "action") for fact, _, _ in tests)
        there = {fact for fact, op, want in tests if op == "exists" and want is True}
        loose = next(
            (fact for fact, op, _ in tests if fact.startswith(ARGS) and op != "exists" and fact not in there), ""
        )
        if loose and not named:
            raise ValueError(
                f"Expected a test of action or agent beside {loose!r}, because an argument that is missing asks a person."
                f" Or add exists: true to it."
            )
        if self.unless and self.decide not in (Decide.ALWAYS, Decide.UNCERTAIN):
            raise ValueError(f"Expected unless only on a rule that asks, but {self.id!r} says {self.decide}.")
        return self


class Policy(Door):
    """One version of a policy. It holds for one `blueprint`, or for every workflow of the tenant. All policies in force
    hold together. `redact` lists arguments (`args.<path>`) that leave the system only as a mark; `budget` is what each of these
    workflows may spend on models, the narrowest counts."""

    name: PolicyName = "default"
    version: int = Field(default=1, ge=1)
    blueprint: str | None = None
    title: str = ""
    description: str = ""
    rules: list[Rule] = Field(max_length=500)
    redact: list[str] = Field(default_factory=list[str], max_length=100)
    budget: Budget | None = None

    @model_validator(mode="after")
    def _ids_once(self) -> Policy:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"Expected each rule id once, but {rule.id!r} stands twice.")
            seen.add(rule.id)
        for path in self.redact:
            if not path.startswith(ARGS) or len(path) == len(ARGS):
                raise ValueError(f"Expected args.<path> in redact, but found {path[:80]!r}.")
        return self


def _check_fact(fact: str) -> None:
    if fact in FACTS or (fact.startswith(ARGS) and len(fact) > len(ARGS)):
        return
    near = difflib.get_close_matches(fact, FACTS, n=1)
    hint = f"{near[0]!r}" if near else f"'args.{fact[:60]}'"
    raise ValueError(
        f"Expected a fact ({', '.join(FACTS)}, args.<path>), but found {fact[:80]!r}. Did you mean {hint}?"
    )


def _check_test(fact: str, op: str, value: Any) -> None:
    if op not in OPERATORS:
        raise ValueError(f"Expected one of {', '.join(OPERATORS)} on {fact!r}, but found {op[:40]!r}.")
    if op == "exists":
        if not isinstance(value, bool):
            raise ValueError(f"Expected exists: true or false on {fact!r}, but found {value!r}.")
        return
    if op == "in":
        if not isinstance(value, list) or not value:
            raise ValueError(f"Expected a list of values for in on {fact!r}, but found {str(value)[:60]!r}.")
        for each in value:
            _check_value(fact, op, each)
        return
    _check_value(fact, op, value)


def _check_value(fact: str, op: str, value: Any) -> None:
    wanted = FACTS.get(fact)
    if value is None or isinstance(value, list | dict):
        raise ValueError(f"Expected a text, number or boolean for {op} on {fact!r}, but found {str(value)[:60]!r}.")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if op in ORDERED and not number:
        raise ValueError(f"Expected a number for {op} on {fact!r}, but found {value!r}.")
    fits = wanted is None or (number if wanted is float else isinstance(value, wanted))
    if not fits or (op in ORDERED and wanted in (str, bool)) or (op == "contains" and wanted in (float, bool)):
        raise ValueError(f"Expected what {fact!r} can be compared with by {op}, but found {value!r}.")


def _checked_time(text: str) -> str:
    try:
        ms_of(text)
    except ValueError:
        raise ValueError(
            f"Expected a time with a zone, such as 2026-12-31T00:00:00Z, but found {text[:40]!r}."
        ) from None
    return text
