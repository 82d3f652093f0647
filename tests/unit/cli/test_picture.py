"""Pictures of recorded workflows, as a terminal of 80 and of 140 columns shows them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.journals import Story
from tests.unit.cli.recorded import NAMES, drawn, events, view

from handrail.cli import looks
from handrail.cli.pause_card import card, wanted
from handrail.cli.picture import Frame, dag, picture
from handrail.cli.press import outcome
from handrail.cli.text import seconds_of
from handrail_contracts.answers import Preview
from handrail_contracts.events import NodeStatus, WorkflowStatus
from handrail_contracts.view import WorkflowView

NINE = seconds_of("2026-11-20T09:00:06Z") or 0.0


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_the_terminal_at_any_moment(name: str, width: int) -> None:
    for upto in range(len(events(name)) + 1):
        shown = view(name, upto)
        lines = drawn(picture(shown, Frame(width, NINE, spin=3)), width)
        assert all(cell_len(line) <= width for line in lines)
        for node_id in shown.nodes:
            assert sum(node_id[:8] in line for line in lines) >= 1


def test_a_paused_onboarding_reads_as_it_is() -> None:
    lines = drawn(picture(view("onboarding-waits-for-a-person"), Frame(80, NINE)), 80)
    assert lines[:4] == [
        "⚑ Needs you  employee-onboarding  paused  6.0 s",
        "Onboard a new employee and provision their hardware",
        "━━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 1 of 5",
        '✓      hr_record             Complete   1/3  250 ms  {"id": 7}',
    ]
    assert lines[5].startswith("├─│─⚑  hardware_procurement  Needs you  3/3    0 ms  SKU_UNAVAILABLE: All a")
    assert lines[7].startswith("○─┴─╯  welcome               Pending")


def test_a_rollback_tells_what_is_undone() -> None:
    final = view("onboarding-abort")
    text = "\n".join(drawn(picture(final, Frame(140, NINE)), 140))
    assert "⊖ Rolled back" in text
    assert text.count("Rolled back") >= 4
    assert " undone" in text


def test_a_retry_shows_its_fault_and_when_it_comes() -> None:
    story = Story()
    story.accepted()
    story.planned({"a": []})
    error = {"code": "TIMEOUT", "message": "m"}
    story.node("a", "SCHEDULED", "RETRYING", 2, error=error, retry_at="2026-11-20T09:00:08.000Z")
    lines = drawn(picture(WorkflowView(story.trace_id).apply_all(story.events), Frame(80, NINE)), 80)
    assert "again in 2.0 s: TIMEOUT" in lines[-2]
    assert "2/3" in lines[-2]


def test_progress_stands_beside_a_node_that_works() -> None:
    story = Story()
    story.accepted()
    story.planned({"a": []})
    story.node("a", "SCHEDULED", "IN_PROGRESS", started_at="2026-11-20T09:00:04.500Z")
    said = {"a": {"percent": 40, "message": "downloading"}}
    shown = WorkflowView(story.trace_id).apply_all(story.events)
    line = drawn(picture(shown, Frame(80, NINE, spin=0, progress=said)), 80)[-2]
    assert "⠋" in line
    assert "1.5 s" in line
    assert "40 % downloading" in line


@given(
    states=st.lists(st.sampled_from([s.value for s in NodeStatus]), min_size=1, max_size=60),
    room=st.integers(1, 30),
)
@settings(max_examples=100)
def test_where_there_is_less_room_than_nodes_those_that_matter_are_kept_and_none_is_forgotten(
    states: list[str], room: int
) -> None:
    shown = _of_states(states)
    lines = [line for line in drawn(dag(shown, Frame(120, NINE, rows=room)), 120) if line]
    assert len(lines) <= max(room, 2, min(len(states), 3))
    kept = [line for line in lines if not line.startswith("⋮")]
    hidden = sum(int(word) for line in lines if line.startswith("⋮") for word in line.split() if word.isdigit())
    assert len(kept) + hidden == len(states)
    if len(states) > room > 3 and any(s in looks.ATTENTION for s in states):
        assert any(looks.node(s).word in line for line in kept for s in looks.ATTENTION)


def test_every_status_has_a_look_of_its_own() -> None:
    assert set(looks.NODE) == {s.value for s in NodeStatus}
    assert set(looks.WORKFLOW) == {s.value for s in WorkflowStatus}
    for table in (looks.NODE, looks.WORKFLOW):
        assert len({(look.icon, look.word) for look in table.values()}) == len(table)
        assert len({look.icon for look in table.values()}) == len(table)
        assert all(cell_len(look.icon) == 1 for look in table.values())


def test_a_status_from_the_future_is_named() -> None:
    assert looks.node("DREAMING").word == "Unknown (DREAMING)"


def test_a_card_tells_fault_evidence_context_and_each_button_with_its_command() -> None:
    (pause,) = view("onboarding-waits-for-a-person").pauses.values()
    text = "\n".join(drawn(card(pause, NINE, url_option=" --url http://h:1"), 120))
    for told in (
        "Failed · hardware_procurement",
        "All approved vendors returned 404",
        "SKU_UNAVAILABLE × 3",
        '"error": "SKU_UNAVAILABLE"',
        "requested_budget  2500",
        "resolve p0123456789abcdef01234567 RES_SKIP --url http://h:1",
        "asks for a URL",
        "RES_MANUAL_SKU --input URL --url http://h:1",
    ):
        assert told in text


def test_a_gate_shows_what_would_change() -> None:
    pause = _pause("gate-edited")
    text = "\n".join(drawn(card(pause, NINE), 100))
    assert "Asks for approval" in text
    assert "→" in text


def test_an_escalation_shows_the_conversation() -> None:
    pause = _pause("escalation-conversation")
    text = "\n".join(drawn(card(pause, NINE), 100))
    assert "Asks for a person" in text
    assert any(f"{message['role']}: " in text for message in pause["transcript"])


def test_long_evidence_is_cut_and_says_where_the_rest_is() -> None:
    pause = {**_pause("onboarding-waits-for-a-person"), "raw_evidence": {"body": [1] * 100}}
    text = "\n".join(drawn(card(pause, NINE, evidence_lines=5), 80))
    assert "97 more lines" in text


@pytest.mark.parametrize(
    ("schema", "words"),
    [("url", "a URL"), ("integer", "a whole number"), ("json", "a JSON value"), (None, "an input"),
     ({"properties": {"to": {}, "amount": {}}}, "to, amount")],
)  # fmt: skip
def test_what_a_button_asks_for_is_said_in_words(schema: Any, words: str) -> None:
    assert wanted(schema) == words


def _pause(name: str) -> dict[str, Any]:
    for upto in range(1, len(events(name)) + 1):
        pauses = view(name, upto).pauses
        if pauses:
            return next(iter(pauses.values()))
    raise AssertionError("Expected a recording with a pause, but it has none.")


def _of_states(states: list[str]) -> WorkflowView:
    story = Story()
    story.accepted()
    story.planned({f"node-{i}": [] for i in range(len(states))})
    for i, state in enumerate(states):
        story.node(f"node-{i}", "PENDING", state)
    return WorkflowView(story.trace_id).apply_all(story.events)


def test_a_preview_tells_what_changes_now_what_is_skipped_later_and_what_is_undone() -> None:
    answer = {
        "action_id": "RES_SKIP",
        "status_after": "RUNNING",
        "nodes": [{"node_id": "a", "from": "AWAITING_HUMAN", "to": "SKIPPED"}],
        "skipped": ["a", "b"],
        "undo": ["d", "c"],
    }
    assert [text.plain.strip() for text in outcome(Preview.model_validate(answer))] == [
        "a: Needs you → » Skipped",
        "skipped later, since they need it: b",
        "undone, in this order: d, c",
        "then the workflow is ● Running",
    ]
