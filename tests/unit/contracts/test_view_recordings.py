"""Golden recordings: events in, expected view out. The TypeScript client folds the same files.

`tests/contracts/recordings/<name>.jsonl` holds the events as on the wire, `<name>.view.json` the state after the last.
They are added to, never edited: an old recording must fold to the same view for ever.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.journals import canonical

from handrail_contracts import live
from handrail_contracts.events import EVENTS
from handrail_contracts.view import WorkflowView

RECORDINGS = Path(__file__).parents[2] / "contracts" / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def events_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def expected(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.view.json").read_text(encoding="utf-8"))


def test_there_are_recordings() -> None:
    assert len(NAMES) >= 11


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_events_fold_to_the_recorded_view(name: str) -> None:
    events = events_of(name)
    view = WorkflowView(events[0]["trace_id"]).apply_all(events)
    assert canonical(view.state()) == canonical(expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_snapshot_of_a_recording_goes_on_to_the_same_view(name: str) -> None:
    events = events_of(name)
    for cut in range(len(events)):
        early = WorkflowView(events[0]["trace_id"]).apply_all(events[:cut])
        resumed = WorkflowView.from_state(json.loads(canonical(early.state()))).apply_all(events)
        assert canonical(resumed.state()) == canonical(expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_hash_of_a_recording_reads_as_the_recorded_view(name: str) -> None:
    events = events_of(name)
    delta = live.LiveView(WorkflowView(events[0]["trace_id"]).apply_all(events)).whole()
    fields = {b"seq": str(delta.seq).encode(), **{name.encode(): value for name, value in delta.fields.items()}}
    state = live.state_json(fields)
    assert state is not None
    assert canonical(json.loads(state)) == canonical(expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_recorded_events_have_the_shape_of_the_contract(name: str) -> None:
    for event in events_of(name):
        model = EVENTS.get(event["event_type"])
        if model is None:
            assert event["event_type"] == "TYPE_FROM_THE_FUTURE"
        else:
            model.model_validate(event)
