"""Rules over facts: what holds, what does not, what nobody can tell; and which rule counts when several hold."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from handrail_contracts.marked import redacted
from handrail_contracts.model import ms_of
from handrail_contracts.policy import Decide, Policy, action_digest
from handrail_engine.policies import Facts, Policies, Verdict, judge

NOW = 1_800_000_000_000
TRANSFER: dict[str, Any] = {"blueprint": None, "agent": "bank", "action": "transfer", "reversible": False}


def policy(*rules: dict[str, Any], **more: Any) -> Policies:
    return Policies.of([Policy.model_validate({"version": 3, "rules": list(rules), **more})])


def rule(decide: str, match: dict[str, Any], id_: str = "r", **more: Any) -> dict[str, Any]:
    return {"id": id_, "match": match, "decide": decide, **more}


def verdict(policies: Policies, args: dict[str, Any] | None = None, now: int = NOW, **facts: Any) -> Verdict:
    own = {k: facts.pop(k) for k in ("gate", "confirm") if k in facts}
    return judge(policies, Facts(**{**TRANSFER, "args": args or {}, **facts}), now, **own)


OVER_100 = rule("always", {"action": "transfer", "args.amount": {"gt": 100}}, "money-over-100")


def test_a_rule_holds_when_all_of_its_tests_hold() -> None:
    v = verdict(policy(OVER_100), {"amount": 500})
    assert (v.decide, v.rule_id, v.version, v.asks) == (Decide.ALWAYS, "money-over-100", 3, True)
    v = verdict(policy(OVER_100), {"amount": 100})
    assert (v.decide, v.rule_id, v.version, v.asks) == (Decide.NEVER, None, 3, False)
    assert verdict(policy(OVER_100), {"amount": 500}, action="deposit").rule_id is None


@pytest.mark.parametrize("amount", ["500", None, True, [500], {"$ref": "x"}, {}, float("nan"), float("inf")])
def test_an_argument_that_cannot_be_read_asks_a_person(amount: Any) -> None:
    v = verdict(policy(OVER_100, rule("never", {"action": "transfer"}, "all-fine")), {"amount": amount})
    assert v.asks and v.rule_id == "money-over-100" and "args.amount" in v.reason
    assert verdict(policy(OVER_100)).asks, "and one that is missing too"


def test_the_strongest_rule_counts_wherever_it_stands() -> None:
    rules = [rule(d, {"action": "transfer"}, d) for d in ("never", "uncertain", "always", "forbid")]
    for strongest in range(4):
        mixed = [rules[strongest], *reversed(rules[:strongest])]
        assert verdict(policy(*mixed)).rule_id == rules[strongest]["id"]
        assert verdict(policy(*reversed(mixed))).rule_id == rules[strongest]["id"]


@pytest.mark.parametrize("decide", ["always", "uncertain"])
def test_four_eyes_hold_whichever_of_the_rules_that_ask_is_told(decide: str) -> None:
    over_1000 = rule(decide, {"action": "transfer", "args.amount": {"gt": 1000}}, "second-person", four_eyes=True)
    for rules in ((OVER_100, over_1000), (over_1000, OVER_100)):
        assert verdict(policy(*rules), {"amount": 5000}).four_eyes
        assert not verdict(policy(*rules), {"amount": 500}).four_eyes
    assert verdict(policy(over_1000), {"amount": 5000}, untrusted=True).four_eyes, "beside a rule of ours too"
    assert verdict(policy(OVER_100, over_1000), {"amount": "much"}).four_eyes, "what nobody can tell is asked of two"


def test_all_policies_in_force_hold_together_and_a_blueprints_own_only_there() -> None:
    tenant = Policy.model_validate(
        {"name": "house", "version": 7, "rules": [rule("never", {"action": "transfer"}, "ok")]}
    )
    own = Policy.model_validate({"name": "b", "version": 2, "blueprint": "bank-transfer", "rules": [OVER_100]})
    both = Policies.of([tenant, own])
    assert verdict(both, {"amount": 500}).rule_id == "ok"
    v = verdict(both, {"amount": 500}, blueprint="bank-transfer")
    assert (v.rule_id, v.policy, v.version) == ("money-over-100", "b", 2)


CASES: list[tuple[dict[str, Any], Any, bool | None]] = [
    ({"eq": 5}, 5, True),
    ({"eq": 5}, 5.0, True),
    ({"eq": 1}, True, None),
    ({"eq": "5"}, 5, None),
    ({"ne": "a"}, "b", True),
    ({"ne": "a"}, "a", False),
    ({"ne": "a"}, 3, None),
    ({"ge": 5, "lt": 9}, 5, True),
    ({"ge": 5, "lt": 9}, 9, False),
    ({"le": 5}, 5, True),
    ({"in": ["a", "b"]}, "b", True),
    ({"in": ["a", "b"]}, "c", False),
    ({"in": ["a", "b"]}, 1, None),
    ({"contains": "ll"}, "hello", True),
    ({"contains": "x"}, ["x", "y"], True),
    ({"contains": "z"}, ["x", "y"], False),
    ({"contains": "z"}, 7, None),
    ({"exists": True}, 0, True),
    ({"exists": False}, 0, False),
]


@pytest.mark.parametrize(("test", "value", "holds"), CASES)
def test_operators(test: dict[str, Any], value: Any, holds: bool | None) -> None:
    v = verdict(policy(rule("always", {"action": "transfer", "args.x": test})), {"x": value})
    assert {True: Decide.ALWAYS, False: Decide.NEVER, None: Decide.UNCERTAIN}[holds] is v.decide


def test_an_argument_lies_at_any_depth() -> None:
    deep = policy(rule("forbid", {"action": "transfer", "args.to.country": {"in": ["XX"]}}))
    assert verdict(deep, {"to": {"country": "XX"}}).decide is Decide.FORBID
    assert verdict(deep, {"to": "XX"}).asks


def test_what_an_agent_leaves_out_asks_and_what_no_plan_can_know_is_no_match() -> None:
    rules = policy(rule("uncertain", {"confidence": {"lt": 0.8}}), rule("always", {"affected": {"gt": 10}}, "many"))
    assert verdict(rules, proposed=True, confidence=0.9).rule_id == "many", "affected is not stated"
    assert verdict(rules, proposed=True, confidence=0.5, affected=3).rule_id == "r"
    assert not verdict(rules).asks
    assert verdict(rules, affected=11).rule_id == "many"


def test_nobody_is_spared_by_what_cannot_be_told() -> None:
    good_record = policy(OVER_100, rule("never", {"action": "transfer", "success_rate": {"gt": 0.99}}, "good-record"))
    assert verdict(good_record, {"amount": 5}).rule_id is None
    assert verdict(good_record, {"amount": 5}, success_rate=1.0).rule_id == "good-record"
    assert verdict(good_record, {"amount": 500}, success_rate=1.0).rule_id == "money-over-100"


def test_a_gate_that_no_policy_covers_asks() -> None:
    assert verdict(Policies(), gate="policy").rule_id == "no-policy"
    assert verdict(policy(OVER_100), {"amount": 5}, gate="policy").decide is Decide.NEVER
    assert verdict(policy(OVER_100), {"amount": 5}, gate="always").rule_id == "gate"
    assert not verdict(Policies()).explicit


def test_the_models_own_flag_can_only_ask() -> None:
    assert verdict(policy(OVER_100), {"amount": 500}, confirm=False).rule_id == "money-over-100"
    assert verdict(policy(OVER_100), {"amount": 5}, confirm=True).rule_id == "requires-confirmation"
    assert verdict(policy(rule("never", {"action": "transfer"})), confirm=True).asks
    assert verdict(policy(rule("forbid", {"action": "transfer"})), confirm=True).decide is Decide.FORBID


def test_content_from_outside_asks_whatever_a_policy_lets_pass_but_not_what_it_forbids() -> None:
    assert verdict(policy(rule("never", {"action": "transfer"})), untrusted=True).rule_id == "untrusted-content"
    assert verdict(policy(rule("forbid", {"untrusted": True})), untrusted=True).decide is Decide.FORBID


def test_a_proposal_passes_only_by_a_rule() -> None:
    assert verdict(policy(OVER_100), {"amount": 5}, proposed=True).rule_id == "proposed"
    assert not verdict(policy(rule("never", {"action": "transfer"})), proposed=True).asks


def test_an_exemption_lets_a_proposal_pass_that_its_rule_would_ask_about() -> None:
    small = {"match": {"action": "transfer", "args.amount": {"le": 200}}, "until": "2027-01-16T08:00:00Z"}
    spared = policy({**OVER_100, "unless": [small]})
    assert verdict(spared, {"amount": 150}, proposed=True).decide is Decide.NEVER
    assert verdict(spared, {"amount": 300}, proposed=True).rule_id == "money-over-100"
    assert verdict(spared, {"amount": 50}, proposed=True).rule_id == "proposed", "of that the rule says nothing anyhow"
    other = rule("uncertain", {"action": "transfer"}, "other")
    assert verdict(policy({**OVER_100, "unless": [small]}, other), {"amount": 150}, proposed=True).rule_id == "other"
    late = ms_of(small["until"])
    assert verdict(spared, {"amount": 150}, now=late, proposed=True).rule_id == "money-over-100"


def test_rules_and_exemptions_end_at_their_time() -> None:
    until = "2027-01-15T08:00:00.000Z"  # NOW, to the millisecond
    ended = policy({**OVER_100, "until": until})
    assert verdict(ended, {"amount": 500}, NOW - 1).asks and not verdict(ended, {"amount": 500}).asks
    small = {"match": {"args.to": "Alice", "args.amount": {"le": 200}}, "until": until}
    spared = policy({**OVER_100, "unless": [small]})
    assert not verdict(spared, {"amount": 150, "to": "Alice"}, NOW - 1).asks
    assert verdict(spared, {"amount": 150, "to": "Alice"}).asks, "it was time-boxed"
    assert verdict(spared, {"amount": 150, "to": 7}, NOW - 1).asks, "what cannot be read is not spared"
    assert verdict(spared, {"amount": 250, "to": "Alice"}, NOW - 1).asks


FAULTS: list[tuple[dict[str, Any], str]] = [
    (rule("sometimes", {"action": "x"}), "decide"),
    (rule("always", {}), "match"),
    (rule("always", {"amount": {"gt": 1}}), "Did you mean 'args.amount'?"),
    (rule("always", {"confidense": {"gt": 1}}), "Did you mean 'confidence'?"),
    (rule("always", {"action": {"above": 1}}), "Expected one of eq, ne"),
    (rule("always", {"action": {"gt": "a"}}), "Expected a number"),
    (rule("always", {"confidence": "high"}), "can be compared"),
    (rule("always", {"reversible": {"eq": "no"}}), "can be compared"),
    (rule("always", {"action": "x", "args.a": {"in": []}}), "Expected a list"),
    (rule("always", {"action": "x", "args.a": {"eq": {"b": 1}}}), "Expected a text, number or boolean"),
    (rule("always", {"action": "x", "args.a": {"exists": 1}}), "exists: true or false"),
    (rule("always", {"args.a": {"gt": 1}}), "Expected a test of action or agent beside 'args.a'"),
    (rule("always", {"action": "x"}, "No Spaces"), "id"),
    (rule("always", {"action": "x"}, colour="red"), "colour"),
    (rule("always", {"action": "x"}, until="tomorrow"), "Expected a time with a zone"),
    (rule("forbid", {"action": "x"}, unless=[{"match": {"agent": "a"}, "until": "2027-01-15T08:00:00Z"}]), "unless"),
]


@pytest.mark.parametrize(("bad", "told"), FAULTS)
def test_a_rule_that_makes_no_sense_is_refused_with_a_sentence(bad: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=r".*") as e:
        Policy.model_validate({"rules": [bad]})
    assert told in str(e.value)


def test_a_rule_without_an_action_may_speak_of_an_argument_that_is_there() -> None:
    wide = policy(rule("always", {"args.amount": {"exists": True, "gt": 100}}))
    assert not verdict(wide, {}).asks and verdict(wide, {"amount": 101}).asks and verdict(wide, {"amount": "1"}).asks


def test_the_digest_is_of_the_action_and_its_arguments_and_of_nothing_else() -> None:
    assert action_digest("a", {"x": 1, "y": 2}) == action_digest("a", {"y": 2, "x": 1})
    assert len({action_digest(a, {"x": x}) for a in "ab" for x in (1, "1", True, None, [1])}) == 10


def test_marked_arguments_leave_only_a_mark() -> None:
    args = {"to": "Alice", "card": {"number": 1, "name": "A"}}
    assert redacted(args, ["args.card.number", "args.none", "args.to.x"]) == {
        "to": "Alice",
        "card": {"number": "[redacted]", "name": "A"},
    }
    assert args["card"] == {"number": 1, "name": "A"}
