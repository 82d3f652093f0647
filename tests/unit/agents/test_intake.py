"""A record becomes a task, or is refused before anything happens."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.agents.attempts import task

from handrail_agents.runtime.intake import read
from handrail_contracts import codec, topics
from handrail_contracts.codec import Undecodable
from handrail_contracts.envelope import Envelope, to_headers
from handrail_contracts.model import ms_of
from handrail_runtime.ports import Record


def record(topic: str = topics.task_topic("tester"), **fields: Any) -> Record:
    value = codec.encode(task(**fields))
    return Record(topic, 0, 0, b"k", value, to_headers(Envelope("i", "t", "/s")), 0)


def test_a_task_comes_with_its_bound_in_milliseconds() -> None:
    order = read(record(start_before="2026-11-21T13:00:00.250+01:00"))
    assert order.start_before_ms == ms_of("2026-11-21T12:00:00.250Z")
    assert order.task == task(start_before="2026-11-21T13:00:00.250+01:00")


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt": 0},
        {"attempt": -1},
        {"attempt": 2**31},
        {"key": "a\0b"},
        {"do_key": "a\0b"},
        {"key": "k" * 10_000},
        {"lease_s": 0},
        {"lease_s": -1},
        {"start_to_close_s": 0},
        {"start_before": "soon"},
        {"start_before": "2026-11-21T12:00:00"},
        {"start_before": ""},
    ],
)
def test_a_task_that_could_not_be_worked_on_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Undecodable, match=r"^Expected "):
        read(record(**fields))


def test_what_lies_on_another_topic_is_no_task() -> None:
    r = record()
    with pytest.raises(Undecodable):
        read(Record(topics.EVENTS, 0, 0, r.key, r.value, r.headers, 0))
