"""Where a client goes on. Mutants killed: `<=` and `<` at the window; AHEAD for an ended one; leading zeros; unicode digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail_notifier.domain.position import AHEAD, BEHIND, MALFORMED, WINDOW, GoOn, Over, opening


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "-1", "01", "00", "1.0", "1e3", "0x1", "١", "²", "abc", "1\n", "null", "a" * 9000]
)
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_not_a_position_is_answered_with_a_snapshot(text: str, ended: bool) -> None:
    assert opening(text, 5, ended=ended) == MALFORMED


@pytest.mark.parametrize("text", ["6", "1001", str(2**63), "9" * 18, "9" * 19, "9" * 5000])
def test_beyond_the_head_of_a_running_workflow_is_answered_with_a_snapshot(text: str) -> None:
    assert opening(text, 5, ended=False) == AHEAD


@pytest.mark.parametrize("text", ["5", "6", "9" * 19, "9" * 5000])
def test_at_or_past_the_end_there_is_nothing_left(text: str) -> None:
    assert opening(text, 5, ended=True) == Over()


def test_a_position_at_the_edge_of_the_window_goes_on_and_one_further_back_does_not() -> None:
    assert opening("1", WINDOW + 1, ended=False) == GoOn(1)
    assert opening("0", WINDOW + 1, ended=False) == BEHIND
    assert opening("0", WINDOW + 1, ended=True) == BEHIND


def test_before_the_first_event_only_zero_is_a_position() -> None:
    assert opening("0", 0, ended=False) == GoOn(0)
    assert opening("1", 0, ended=False) == AHEAD


@given(st.text() | st.integers().map(str), st.integers(0, 3000), st.booleans())
def test_any_text_has_an_answer_and_a_cursor_is_never_beyond_the_head(text: str, head: int, ended: bool) -> None:
    answer = opening(text, head, ended=ended)
    if isinstance(answer, GoOn):
        assert 0 <= head - answer.cursor <= WINDOW
        assert str(answer.cursor) == text
        assert not (ended and answer.cursor == head)
