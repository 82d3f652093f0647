"""Strangers' text never reaches the terminal as anything but text."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cli.recorded import NAMES, drawn, events

from handrail.cli import form
from handrail.cli.options import pair, seconds
from handrail.cli.pause_card import card
from handrail.cli.sentences import line, what
from handrail.cli.text import compact, duration, pretty, safe, short

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202egnp.exe\u2066 a\u200bb \x9b2J \r\nfake: approve"


def harmless(text: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\u200d\ufe0f" for c in text)


@given(st.text())
def test_any_text_is_harmless_once_it_is_safe(text: str) -> None:
    assert harmless(safe(text))
    assert "\n" not in safe(text)
    assert harmless(safe(text, lines=True))
    assert len(short(text, 10)) <= 10


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_json_is_harmless(value: Any) -> None:
    assert harmless(compact(value))
    assert all(harmless(text) for text in pretty(value))


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    for text in ("grüße", "日本語", "👩‍💻 ok", "a → b"):
        assert safe(text) == text


def test_what_is_hidden_is_shown() -> None:
    assert safe("a\x1b[2J\u202eb") == "a\\x1b[2J\\u202eb"


def test_hostile_evidence_is_shown_and_not_obeyed() -> None:
    pause: dict[str, Any] = {
        "kind": HOSTILE,
        "node_id": HOSTILE,
        "pause_id": HOSTILE,
        "failed_agent": HOSTILE,
        "failure_reason": HOSTILE,
        "context_snapshot": {HOSTILE: HOSTILE},
        "attempts": [{"error": {"code": HOSTILE}}],
        "available_resolutions": [{"action_id": HOSTILE, "display_text": HOSTILE, "input_schema": HOSTILE, "requires_input": True}],
        "raw_evidence": {"content_type": HOSTILE, "body": HOSTILE, "truncated": False},
        "transcript": [{"role": HOSTILE, "text": HOSTILE}],
        "proposed_action": {"summary": HOSTILE, "diff": {"before": {HOSTILE: HOSTILE}, "after": {}}},
        "risk": {"rule_id": HOSTILE, "policy_version": HOSTILE},
        "claimed_by": HOSTILE,
        "on_expiry": HOSTILE,
        "expires_at": "2026-11-20T09:00:00Z",
        "at": HOSTILE,
        "confidence": 0.5,
    }  # fmt: skip
    assert all(harmless(text) for text in drawn(card(pause, 0.0), 100))


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_one_harmless_line(name: str) -> None:
    for event in events(name):
        told = line(event)
        assert harmless(told)
        assert "\n" not in told
        if event["event_type"].startswith(("WORKFLOW", "NODE", "TASK", "HITL", "MESSAGE", "GATE", "PAUSE")):
            assert event["event_type"] not in told, "an event that we know is told in words"


def test_an_event_that_is_broken_or_unknown_is_shown_raw() -> None:
    assert (
        what({"event_type": "NODE_STATE_CHANGED", "seq": 1, "at": "x", "node_id": "a"})
        == 'NODE_STATE_CHANGED {"node_id": "a"}'
    )
    assert what({"event_type": "WORKFLOW_DREAMT", "of": HOSTILE}).startswith("WORKFLOW_DREAMT ")


@pytest.mark.parametrize(
    ("given", "told"),
    [(0, "0 ms"), (0.25, "250 ms"), (1.24, "1.2 s"), (99.96, "1 m 40 s"), (245, "4 m 05 s"), (12_000, "3 h 20 m"),
     (200_000, "2 d 7 h"), (-5, "0 ms")],
)  # fmt: skip
def test_durations(given: float, told: str) -> None:
    assert duration(given) == told


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5_400), ("500ms", 0.5)],
)
def test_lengths_of_time(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 apples", "1h x"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="Expected a length of time"):
        seconds(text)


def test_pairs() -> None:
    assert pair("a=b=c") == ("a", "b=c")
    for wrong in ("a", "=b"):
        with pytest.raises(typer.BadParameter):
            pair(wrong)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ("url", "https://x.example", "https://x.example"),
        ("text", "12", "12"),
        ("integer", "12", 12),
        ("boolean", "true", True),
        ("json", '{"a":1}', {"a": 1}),
        ({"type": "string"}, "12345", "12345"),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "object"}, '{"a":1}', {"a": 1}),
    ],
)
def test_inputs_have_the_type_that_the_button_asks_for(schema: Any, text: str, value: Any) -> None:
    assert form.parse(schema, text) == value


def test_what_is_not_json_is_refused_where_json_is_needed() -> None:
    with pytest.raises(typer.BadParameter, match="Expected a whole number"):
        form.parse("integer", "many")
