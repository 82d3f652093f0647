"""What the policies in force say about an action. Pure; the same facts and the same policies give the same verdict.

A test has three answers: it holds, it does not, or nobody can tell, because the argument is missing or of another type. A
rule with a test that does not hold does not hold; else with one that nobody can tell, nobody can tell of the rule, and a
person is asked, whatever weaker rules say. `never` and `unless` need certainty: what nobody can tell lets nothing pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from handrail_contracts.marked import redacted
from handrail_contracts.model import ms_of
from handrail_contracts.policy import ARGS, ORDERED, SCORES, STRENGTH, Decide, Policy, Tests, tests_of
from handrail_engine.references import MISSING, dig

GATE_RULE = "gate"
UNTRUSTED_RULE = "untrusted-content"
UNCOVERED_RULE = "no-policy"
PROPOSED_RULE = "proposed"
CONFIRM_RULE = "requires-confirmation"
UNREADABLE_RULE = "unreadable-policy"
"""Rules of our own: a gate that always asks, content from outside, a gate that no policy covers, an agent that asks, a model
that asks, a policy that cannot be read."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an action before it happens. `proposed`: an agent says so, who may not dodge a rule by leaving a fact
    out; elsewhere a fact that nobody states is no match."""

    blueprint: str | None
    agent: str
    action: str
    args: dict[str, Any]
    reversible: bool
    untrusted: bool = False
    confidence: float | None = None
    affected: float | None = None
    domain: str | None = None
    success_rate: float | None = None
    proposed: bool = False

    def shown(self, redact: Iterable[str] = ()) -> dict[str, Any]:
        """The facts as they are recorded; arguments that are marked leave only the mark."""
        told: dict[str, Any] = {"agent": self.agent, "action": self.action, "args": redacted(self.args, redact)}
        told |= {"reversible": self.reversible, "untrusted": self.untrusted}
        for name in ("confidence", "affected", "domain", "success_rate"):
            value = getattr(self, name)
            if value is not None:
                told[name] = value
        return told


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds for an action, by which rule. `explicit` is False where nothing spoke of it at all."""

    decide: Decide
    rule_id: str | None
    policy: str | None
    version: int
    score: float
    reason: str
    four_eyes: bool = False
    explicit: bool = True

    @property
    def asks(self) -> bool:
        """True when a person is asked."""
        return self.decide in (Decide.ALWAYS, Decide.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    policy: str
    version: int
    blueprint: str | None
    decide: Decide
    tests: Tests
    score: float
    four_eyes: bool
    until_ms: int | None
    because: str
    unless: tuple[tuple[Tests, int], ...]


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies in force, one version of each name. `serial` grows with every change of them."""

    serial: int = 0
    policies: tuple[Policy, ...] = ()
    _rules: tuple[_Rule, ...] = ()
    _index: dict[tuple[str | None, str, str], tuple[_Rule, ...]] = field(default_factory=dict, compare=False)

    @staticmethod
    def of(policies: Iterable[Policy], serial: int = 1) -> Policies:
        """Reads them once, so that judging is cheap."""
        kept = tuple(policies)
        return Policies(serial, kept, tuple(_read(p, r) for p in kept for r in p.rules))

    @staticmethod
    def read(rows: Iterable[tuple[str, int, str | None, Any]], serial: int) -> Policies:
        """Those that are stored: (name, version, blueprint, body). One that this version of the code cannot read asks always:
        whoever wrote it wanted something guarded."""
        return Policies.of([_stored(*row) for row in rows], serial)

    def about(self, blueprint: str | None, agent: str, action: str) -> tuple[_Rule, ...]:
        """The rules that may hold for this action; found once."""
        if not self._rules:
            return ()
        key = (blueprint, agent, action)
        found = self._index.get(key)
        if found is None:
            if len(self._index) > 10_000:
                self._index.clear()
            found = tuple(r for r in self._rules if _may_hold(r, blueprint, agent, action))
            self._index[key] = found
        return found

    def redact(self, blueprint: str | None) -> list[str]:
        """The arguments that leave only a mark."""
        return [path for p in self.policies if p.blueprint in (None, blueprint) for path in p.redact]

    def budget(self, blueprint: str | None) -> list[dict[str, float]]:
        """What these policies let such a workflow spend on models."""
        mine = (p.budget for p in self.policies if p.budget is not None and p.blueprint in (None, blueprint))
        return [b.model_dump(exclude_none=True) for b in mine]

    def version_for(self, blueprint: str | None) -> tuple[str | None, int]:
        """Name and version of the policy that speaks first for this blueprint: its own, else the tenant's; (None, 0): none."""
        mine = [p for p in self.policies if p.blueprint in (None, blueprint)]
        mine.sort(key=lambda p: p.blueprint is None)
        return (mine[0].name, mine[0].version) if mine else (None, 0)


def judge(
    policies: Policies, f: Facts, now_ms: int, *, gate: str | None = None, confirm: bool | None = None
) -> Verdict:
    """The verdict. `gate` is what the plan declares (`always`, `policy`, None: no gate); `confirm` the model's own flag,
    which can ask for a person and never spare one."""
    rules = policies.about(f.blueprint, f.agent, f.action)
    best: Verdict | None = None
    four_eyes = spared = False
    for rule in rules:
        if _exempted(rule, f, now_ms):
            spared = True
            continue
        said = _says(rule, f, now_ms)
        if said is None:
            continue
        four_eyes = four_eyes or (said.asks and said.four_eyes)
        if best is None or STRENGTH[said.decide] > STRENGTH[best.decide]:
            best = said
    for own in _own(f, gate, confirm, bool(rules), unspoken=best is None and not spared):
        if best is None or STRENGTH[own.decide] > STRENGTH[best.decide]:
            best = own
    if best is not None:
        # Every rule that asks is heard in this, also one that says nothing else: a second one must not do away with it.
        return replace(best, four_eyes=True) if four_eyes and best.asks and not best.four_eyes else best
    name, version = next(((r.policy, r.version) for r in rules), policies.version_for(f.blueprint))
    return Verdict(Decide.NEVER, None, name, version, 0.2, "no rule asks for a person", explicit=gate is not None)


def _stored(name: str, version: int, blueprint: str | None, body: Any) -> Policy:
    try:
        return Policy.model_validate({**body, "name": name, "version": version})
    except (ValueError, TypeError):
        because = f"policy {name} version {version} cannot be read by this version of Handrail"
        rule = {"id": UNREADABLE_RULE, "match": {"action": {"exists": True}}, "decide": "always", "because": because}
        return Policy.model_validate({"name": name, "version": version, "blueprint": blueprint, "rules": [rule]})


def _own(f: Facts, gate: str | None, confirm: bool | None, covered: bool, *, unspoken: bool) -> Iterable[Verdict]:
    if f.untrusted:
        yield _builtin(Decide.ALWAYS, UNTRUSTED_RULE, "it depends on content from outside and has side effects")
    if gate == "always":
        yield _builtin(Decide.ALWAYS, GATE_RULE, "the plan asks for approval")
    if gate == "policy" and not covered:
        yield _builtin(Decide.UNCERTAIN, UNCOVERED_RULE, "the plan asks for a policy, and none speaks of this action")
    if f.proposed and unspoken:
        yield _builtin(Decide.UNCERTAIN, PROPOSED_RULE, "the agent proposes it, and no rule lets it pass")
    if confirm:
        yield _builtin(Decide.UNCERTAIN, CONFIRM_RULE, "the agent asks for confirmation")


def _builtin(decide: Decide, rule_id: str, reason: str) -> Verdict:
    return Verdict(decide, rule_id, None, 0, SCORES[decide], reason)


def _read(p: Policy, r: Any) -> _Rule:
    unless = tuple((tests_of(e.match), ms_of(e.until)) for e in r.unless)
    until = ms_of(r.until) if r.until is not None else None
    score = r.score if r.score is not None else SCORES[r.decide]
    tests = tests_of(r.match)
    return _Rule(r.id, p.name, p.version, p.blueprint, r.decide, tests, score, r.four_eyes, until, r.because, unless)


def _may_hold(r: _Rule, blueprint: str | None, agent: str, action: str) -> bool:
    if r.blueprint is not None and r.blueprint != blueprint:
        return False
    known = {"agent": agent, "action": action}
    return all(_holds(op, known[fact], want) is not False for fact, op, want in r.tests if fact in known)


def _says(r: _Rule, f: Facts, now_ms: int) -> Verdict | None:
    """What the rule says of these facts, or None: it does not hold."""
    if r.until_ms is not None and now_ms >= r.until_ms:
        return None
    holds, blind = _all(r.tests, f)
    if holds is True:
        reason = r.because or _sentence(r)
        return Verdict(r.decide, r.id, r.policy, r.version, r.score, reason, r.four_eyes)
    if holds is None and r.decide is not Decide.NEVER:
        reason = f"rule {r.id} cannot be judged: {blind}"
        score = max(r.score if r.decide is not Decide.FORBID else 0.0, SCORES[Decide.UNCERTAIN])
        return Verdict(Decide.UNCERTAIN, r.id, r.policy, r.version, score, reason, r.four_eyes)
    return None


def _exempted(r: _Rule, f: Facts, now_ms: int) -> bool:
    """Whether the rule would speak, and somebody has written down that here it does not: that lets pass what it is about."""
    alive = r.until_ms is None or now_ms < r.until_ms
    return alive and any(
        now_ms < until and _all(tests, f)[0] is True and _all(r.tests, f)[0] is not False for tests, until in r.unless
    )


def _all(tests: Tests, f: Facts) -> tuple[bool | None, str]:
    """Whether all tests hold, None when nobody can tell; and then why not."""
    blind = ""
    for fact, op, want in tests:
        value = _value(f, fact)
        held = _holds(op, value, want)
        if held is None and value is MISSING and not fact.startswith(ARGS) and not (f.proposed and fact in _STATED):
            held = False
        if held is False:
            return False, ""
        if held is None and not blind:
            blind = f"{fact} is missing" if value is MISSING else f"{fact} is not what {op} compares"
    return (None, blind) if blind else (True, "")


_STATED = frozenset({"confidence", "affected", "domain"})


def _value(f: Facts, fact: str) -> Any:
    if fact.startswith(ARGS):
        found = dig(f.args, tuple(fact[len(ARGS) :].split(".")))
        return MISSING if found is None else found
    value = getattr(f, fact)
    return MISSING if value is None else value


def _holds(op: str, value: Any, want: Any) -> bool | None:
    """One comparison; None when the value is missing or of a type that cannot be compared so."""
    if op == "exists":
        return (value is not MISSING) == want
    if value is MISSING:
        return None
    if op in ORDERED:
        if _kind(value) != "number":
            return None
        return {"gt": value > want, "ge": value >= want, "lt": value < want, "le": value <= want}[op]
    if op == "contains":
        if isinstance(value, str) and isinstance(want, str):
            return want in value
        return any(_same(v, want) for v in value) if isinstance(value, list) else None
    if op == "in":
        if all(_kind(value) != _kind(w) for w in want):
            return None
        return any(_same(value, w) for w in want)
    if _kind(value) != _kind(want):
        return None
    return _same(value, want) == (op == "eq")


def _kind(value: Any) -> str:
    """JSON's own types: to Python true is 1, to a rule it is not."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number" if value == value and value not in (float("inf"), float("-inf")) else "none"
    return "text" if isinstance(value, str) else "none"


def _same(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) != "none" and a == b


def _sentence(r: _Rule) -> str:
    tests = (f"{fact} {op} {want}" for fact, op, want in r.tests if fact not in ("agent", "action"))
    return f"rule {r.id}: {', '.join(tests) or 'this action'}"
