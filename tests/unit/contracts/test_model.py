"""Instants as text and back."""

from __future__ import annotations

import pytest

from handrail_contracts.model import iso, ms_of


@pytest.mark.parametrize("text", ["2026-11-27T16:00:00.123Z", "2026-11-27T17:00:00.123+01:00", "20261127T160000.123Z"])
def test_any_rfc_3339_time_is_read(text: str) -> None:
    for _ in range(2):  # read, then known
        assert iso(ms_of(text)) == "2026-11-27T16:00:00.123Z"


def test_a_fraction_may_have_any_number_of_digits() -> None:
    assert iso(ms_of(f"2026-11-27T16:00:00.123{'0' * 5_000}Z")) == "2026-11-27T16:00:00.123Z"


@pytest.mark.parametrize("text", ["", "soon", "2026-11-27T16:00:00.123", "2026-11-27T16:00:00." + "1" * 50])
def test_what_has_no_zone_or_is_no_time_is_refused_each_time(text: str) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=r"zone|Invalid"):
            ms_of(text)
