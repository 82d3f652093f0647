"""An escalation is cut to what the door takes, line by line."""

from __future__ import annotations

import pytest

from handrail_contracts.commands import EscalationRequest
from handrail_contracts.tasks import Escalation
from handrail_sdk.shortened import shortened


@pytest.mark.parametrize(
    "at", ["2026-W10-1T00:00:00Z", "20260101T000000Z", "9999-12-31T00:00:00Z", "yesterday", None, 7]
)
def test_a_time_that_the_door_refuses_leaves_its_line_without_one(at: object) -> None:
    asked = shortened(Escalation(reason="help", transcript=[{"role": "user", "text": "hello", "at": at}]))
    assert asked.transcript == [{"role": "user", "text": "hello"}]
    EscalationRequest.model_validate({"reason": asked.reason, "transcript": asked.transcript})


def test_a_time_that_the_door_takes_stays() -> None:
    line = {"role": "user", "text": "hello", "at": "2026-01-31T12:00:00Z"}
    assert shortened(Escalation(reason="help", transcript=[line])).transcript == [line]
