"""What the simulators compute without a database."""

from __future__ import annotations

import pytest

from handrail_simulators.answers import number
from handrail_simulators.bank import Refused, cents_of, units
from handrail_simulators.office import address


@pytest.mark.parametrize(
    ("employee", "expected"),
    [
        ("Ada", "ada@company.example"),
        ("Ada Lovelace", "ada.lovelace@company.example"),
        ("  Jürgen  O'Neil-SS ", "jurgen.o.neil.ss@company.example"),
        ("李", "employee@company.example"),
        ("a\r\nBcc: x@y", "a.bcc.x.y@company.example"),
    ],
)
def test_an_address_is_plain_whatever_the_name(employee: str, expected: str) -> None:
    assert address(employee) == expected


def test_a_document_number_is_the_same_for_the_same_key_only() -> None:
    assert number("PO", "default/t/a/0") == number("PO", "default/t/a/0")
    assert number("PO", "default/t/a/0") != number("PO", "default/t/a/1")


@pytest.mark.parametrize(("amount", "cents"), [(50, 5000), (0.1, 10), (19.99, 1999), (1e9, 100_000_000_000)])
def test_amounts_become_cents_without_loss(amount: float, cents: int) -> None:
    assert cents_of(amount) == cents
    assert units(cents) == amount


@pytest.mark.parametrize("amount", [0, -1, 0.001, 10.005, float("inf"), float("nan")])
def test_amounts_that_are_no_amounts_are_refused(amount: float) -> None:
    with pytest.raises(Refused, match="INVALID_AMOUNT"):
        cents_of(amount)


def test_whole_amounts_stay_integers() -> None:
    assert isinstance(units(95_000), int)
