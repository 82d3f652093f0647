"""An intent finds its blueprint by words, or nothing at all."""

from __future__ import annotations

import pytest

from handrail_gateway.application.matching import MARGIN, THRESHOLD, Candidate, best, scores, stem, words

ONBOARDING = Candidate(
    "employee-onboarding",
    ["Onboard a new employee and provision their hardware", "Set up a new engineer with a laptop, mail and payroll"],
    ["onboarding", "new employee", "new engineer"],
)
TRANSFER = Candidate("bank-transfer", ["Transfer 100 to Alice", "Send money to Bob"], ["transfer", "wire"])
REFUND = Candidate("refund-support", ["I was charged twice", "I want my money back"], ["refund", "charged twice"])
ALL = [ONBOARDING, TRANSFER, REFUND]


@pytest.mark.parametrize(
    ("intent", "expected"),
    [
        ("Please onboard our new engineer and get her a laptop", "employee-onboarding"),
        ("Onboard a new employee and provision their hardware", "employee-onboarding"),
        ("ONBOARDING of Ada, she needs a laptop", "employee-onboarding"),
        ("transfer 500 to alice", "bank-transfer"),
        ("I was charged twice, I want a person", "refund-support"),
        ("refund order 12345", "refund-support"),
        ("bake a cake", None),
        ("new money", None),
        ("", None),
        ("the of and", None),
        ("💥", None),
    ],
)
def test_what_people_say_finds_what_they_mean(intent: str, expected: str | None) -> None:
    assert best(intent, ALL) == expected


def test_a_keyword_is_enough_and_a_few_words_of_an_example_are_not() -> None:
    assert scores("wire", ALL)[0] == (0.4, "bank-transfer")
    assert best("wire", ALL) == "bank-transfer"
    assert best("a laptop and mail", ALL) is None


def test_a_close_race_is_no_match() -> None:
    twins = [Candidate("one", ["paint the house"], []), Candidate("two", ["paint the house"], [])]
    assert [score for score, _ in scores("paint the house", twins)] == [0.6, 0.6]
    assert best("paint the house", twins) is None
    assert best("paint the house", twins[:1]) == "one"


def test_the_margin_decides_and_nothing_else() -> None:
    near = [Candidate("one", ["paint house wall"], []), Candidate("two", ["paint house roof"], [])]
    first, second = scores("paint house wall", near)
    assert first[0] - second[0] >= MARGIN
    assert first[0] >= THRESHOLD
    assert best("paint house wall", near) == "one"


def test_words_lose_case_accents_stop_words_and_endings() -> None:
    assert words("The Onboarding of employées") == words("onboard EMPLOYEE")
    assert stem("engineering") == stem("engineers") == stem("engineer")
    assert stem("payments") == stem("pay") == stem("paying")
    assert stem("bus") == "bus"


def test_the_answer_does_not_depend_on_the_order_of_blueprints() -> None:
    intent = "send money to the new employee"
    assert scores(intent, ALL) == scores(intent, ALL[::-1])


def test_nothing_matches_where_nothing_is_loaded() -> None:
    assert best("onboard", []) is None
