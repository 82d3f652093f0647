"""AG-UI: whatever happens, a reader that knows nothing of us ends with our state, and no rule of the protocol is broken.

Mutants killed: the state patched after later events were folded; steps left open at a pause; an interrupt without
interrupts when the last pause closes; a run that is not begun anew after a decision; a deleted `replace` of the pauses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import Event as AguiEvent
from pydantic import TypeAdapter
from tests.journals import Event, Story, canonical, random_journal

from handrail_contracts.events import EventType
from handrail_contracts.view import WorkflowView
from handrail_notifier.application.agui import Translator, answer_schema, encoded

RECORDINGS = sorted((Path(__file__).parents[2] / "contracts" / "recordings").glob("*.jsonl"))
JOURNALS = [(p.stem, [json.loads(line) for line in p.read_text().splitlines()]) for p in RECORDINGS]
JOURNALS += [(f"random {seed}", random_journal(seed)) for seed in range(150)]
ADAPTER: TypeAdapter[Any] = TypeAdapter(AguiEvent)


class Reader:
    """What AG-UI's own client does, and what it forbids."""

    def __init__(self) -> None:
        self.state: Any = None
        self.run: str | None = None
        self.over = False
        self.steps: set[str] = set()
        self.seen: list[dict[str, Any]] = []

    def read(self, raw: bytes) -> None:
        event = json.loads(raw)
        ADAPTER.validate_python(event)
        assert None not in {k: v for k, v in event.items() if k not in ("value", "snapshot", "result")}.values()
        kind = event["type"]
        self.seen.append(event)
        assert not self.over, f"{kind} after RUN_ERROR"
        if kind == "RUN_STARTED":
            assert self.run is None, "RUN_STARTED while a run is active"
            self.run = event["runId"]
            return
        assert self.run is not None, f"{kind} outside of a run"
        match kind:
            case "STEP_STARTED":
                assert event["stepName"] not in self.steps
                self.steps.add(event["stepName"])
            case "STEP_FINISHED":
                self.steps.remove(event["stepName"])
            case "STATE_SNAPSHOT":
                self.state = event["snapshot"]
            case "STATE_DELTA":
                for operation in event["delta"]:
                    patch(self.state, operation)
            case "RUN_FINISHED":
                assert not self.steps, "RUN_FINISHED while steps are active"
                assert event["runId"] == self.run
                self.run = None
            case "RUN_ERROR":
                self.over = True
            case _:
                pass


def patch(document: Any, operation: dict[str, Any]) -> None:
    """RFC 6902, as much as is used: what is replaced must exist."""
    *way, last = operation["path"].split("/")[1:]
    for part in way:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if isinstance(document, list):
        if operation["op"] == "add":
            assert last == "-"
            document.append(operation["value"])
        else:
            document[int(last)] = operation["value"]
    else:
        assert last in document
        document[last] = operation["value"]


def told(events: Iterable[Event]) -> Reader:
    events = list(events)
    translator, reader, view = Translator(events[0]["trace_id"]), Reader(), WorkflowView(events[0]["trace_id"])
    for event in events:
        for one in translator.tell(event).all():
            reader.read(encoded(one))
        view.apply(event)
        assert canonical(reader.state) == canonical(view.state()), event
        assert (reader.run is not None) == translator.running or reader.over
    return reader


@pytest.mark.parametrize("events", [pytest.param(events, id=name) for name, events in JOURNALS])
def test_a_reader_ends_with_the_state_after_every_event_and_no_rule_is_broken(events: list[Event]) -> None:
    told(events)


@pytest.mark.parametrize("events", [pytest.param(events, id=name) for name, events in JOURNALS[:40]])
def test_what_was_folded_before_changes_nothing_of_what_is_told(events: list[Event]) -> None:
    whole, late = Translator(events[0]["trace_id"]), Translator(events[0]["trace_id"])
    half = len(events) // 2
    for event in events[:half]:
        whole.tell(event)
        late.fold(event)
    for event in events[half:]:
        assert [encoded(e) for e in late.tell(event).all()] == [encoded(e) for e in whole.tell(event).all()]


def test_what_is_encoded_late_shows_the_state_as_it_was() -> None:
    story = Story("t")
    story.accepted()
    story.planned({"a": []})
    story.paused("p1", "a")
    story.resolved("p1")
    translator = Translator("t")
    kept = [translator.tell(event) for event in story.events]
    interrupted = json.loads(encoded(kept[2].ending[-1]))
    assert [pause["pause_id"] for pause in interrupted["snapshot"]["pauses"]] == ["p1"]


def test_a_pause_is_an_interrupt_that_names_its_buttons() -> None:
    story = Story("t")
    story.accepted()
    story.planned({"a": []})
    story.paused("p1", "a")
    finished = told(story.events).seen[-1]
    assert finished["outcome"]["type"] == "interrupt"
    [asked] = finished["outcome"]["interrupts"]
    assert (asked["id"], asked["reason"]) == ("p1", "handrail:failure")
    offered = [b["action_id"] for b in asked["metadata"]["available_resolutions"]]
    assert offered
    assert [branch["properties"]["action_id"]["const"] for branch in asked["responseSchema"]["oneOf"]] == offered


def test_a_button_that_asks_for_an_input_has_its_schema_in_the_answer() -> None:
    buttons = [
        {"action_id": "A", "display_text": "a", "requires_input": True, "input_schema": "url"},
        {"action_id": "B", "display_text": "b", "requires_input": True, "input_schema": {"type": "integer"}},
        {"action_id": "C", "display_text": "c", "requires_input": False},
    ]
    one, two, three = answer_schema(buttons)["oneOf"]
    assert one["properties"]["input"]["format"] == "uri"
    assert two["properties"]["input"] == {"type": "integer"}
    assert "input" not in three["properties"]
    assert (one["required"], three["required"]) == (["action_id", "input"], ["action_id"])


@pytest.mark.parametrize(
    ("kind", "status", "type_", "outcome"),
    [
        ("WORKFLOW_COMPLETED", "COMPLETED", "RUN_FINISHED", "success"),
        ("WORKFLOW_COMPLETED", "COMPLETED_WITH_SKIPS", "RUN_FINISHED", "success"),
        ("WORKFLOW_COMPENSATED", "COMPENSATED", "RUN_FINISHED", "cancelled"),
        ("WORKFLOW_CANCELLED", "CANCELLED", "RUN_FINISHED", "cancelled"),
        ("WORKFLOW_FAILED", "FAILED", "RUN_ERROR", None),
        ("WORKFLOW_COMPENSATION_INCOMPLETE", "COMPENSATION_INCOMPLETE", "RUN_ERROR", None),
    ],
)
def test_each_end_of_a_workflow_is_an_end_of_the_run(kind: str, status: str, type_: str, outcome: str | None) -> None:
    story = Story("t")
    story.accepted()
    story.ended(kind, status, reason="because")
    final = told(story.events).seen[-1]
    assert final["type"] == type_
    assert (final.get("outcome") or {}).get("type") == outcome
    if outcome is None:
        assert (final["code"], final["message"]) == (status, "because")


def test_words_of_people_are_messages_and_rare_events_are_told_as_they_are() -> None:
    story = Story("t")
    story.accepted()
    story.planned({"a": []})
    story.paused("p1", "a", "escalation")
    story.add(EventType.MESSAGE_ADDED, pause_id="p1", role="operator", text="hello")
    story.add(EventType.RESULT_IGNORED, node_id="a", attempt=1, reason="late")
    seen = told(story.events).seen
    [said] = [e for e in seen if e["type"] == "TEXT_MESSAGE_CONTENT"]
    assert said["delta"] == "hello"
    [rare] = [e for e in seen if e["type"] == "CUSTOM"]
    assert (rare["name"], rare["value"]["reason"]) == ("handrail:RESULT_IGNORED", "late")
