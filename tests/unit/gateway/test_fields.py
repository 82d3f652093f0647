"""B8, B9, B17: every fault of a body at once, with JSON pointers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from handrail_contracts import commands
from handrail_contracts.commands import CancelRequest, ResumeRequest, StartRequest
from handrail_contracts.model import Door
from handrail_contracts.patterns import WORDS
from handrail_gateway.application.faults import Refusal
from handrail_gateway.entrypoints.http.fields import read


def refused(model: type[BaseModel], value: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(model, json.dumps(value).encode(), value)
    return caught.value


def pointers(refusal: Refusal) -> list[str]:
    assert refusal.errors is not None
    return [e["pointer"] for e in refusal.errors]


def test_an_unknown_field_is_told_with_the_nearest_known_name() -> None:
    refusal = refused(StartRequest, {"intnt": "x"})
    assert refusal.code == "unknown-field"
    assert refusal.errors == [
        {"pointer": "/intnt", "code": "unknown-field", "message": "Unknown field 'intnt'. Did you mean 'intent'?"}
    ]


def test_the_nearest_name_is_that_of_the_object_where_the_field_stands() -> None:
    node = {"id": "a", "agent": "x", "action": "y", "retry": {"max_attemts": 2}, "when": {"ref": "input.a", "inn": []}}
    refusal = refused(StartRequest, {"plan": {"nodes": [node]}})
    assert refusal.errors is not None
    said = {e["pointer"]: e["message"] for e in refusal.errors}
    assert "max_attempts" in said["/plan/nodes/0/retry/max_attemts"]
    assert "'in'" in said["/plan/nodes/0/when/inn"]


def test_all_faults_are_told_with_pointers() -> None:
    refusal = refused(StartRequest, {"intent": 1, "labels": {"a": 2}, "deadline_s": -1, "plan": {"nodes": [{}]}})
    assert refusal.code == "validation"
    expected = [
        "/intent",
        "/plan/nodes/0/id",
        "/plan/nodes/0/agent",
        "/plan/nodes/0/action",
        "/labels/a",
        "/deadline_s",
    ]
    assert sorted(pointers(refusal)) == sorted(expected)


def test_a_missing_field_is_pointed_at_where_it_should_be() -> None:
    assert pointers(refused(ResumeRequest, {"comment": "x"})) == ["/action_id"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (CancelRequest, {"compensate": "false"}),
        (ResumeRequest, {"action_id": "A", "override_claim": 1}),
        (StartRequest, {"intent": "x", "deadline_s": "60"}),
        (StartRequest, []),
        (StartRequest, None),
        (StartRequest, "x"),
    ],
)
def test_types_are_taken_literally(model: type[BaseModel], body: Any) -> None:
    assert refused(model, body).code == "validation"


def test_a_branch_of_a_union_is_no_part_of_the_pointer() -> None:
    node = {"id": "a", "agent": "x", "action": "y", "compensation": {"retry": {"max_attempts": "x"}}}
    assert "/plan/nodes/0/compensation/retry/max_attempts" in pointers(
        refused(StartRequest, {"plan": {"nodes": [node]}})
    )


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 10**6}, "max_attempts"),
        ({"initial_delay_s": -1}, "initial_delay_s"),
        ({"multiplier": 0}, "multiplier"),
        ({"backoff": "sometimes"}, "backoff"),
    ],
)
def test_an_absurd_retry_policy_is_told_field_by_field(policy: dict[str, Any], field: str) -> None:
    node = {"id": "a", "agent": "x", "action": "y", "retry": policy}
    refusal = refused(StartRequest, {"plan": {"nodes": [node]}})
    assert refusal.code == "invalid-retry-policy"
    assert pointers(refusal) == [f"/plan/nodes/0/retry/{field}"]


def test_long_and_strange_input_is_quoted_short_and_escaped() -> None:
    refusal = refused(StartRequest, {"\x1b[31m<b>" + "x" * 500: 1})
    assert len(refusal.detail) < 600
    assert "\x1b" not in refusal.detail


def test_what_a_name_may_be_is_said_in_words() -> None:
    nodes = [{"id": "a b", "agent": "a b", "action": "a b"}]
    refusal = refused(StartRequest, {"plan": {"nodes": nodes}})
    assert refusal.errors is not None
    assert {e["pointer"]: e["message"] for e in refusal.errors} == {
        "/plan/nodes/0/id": "Expected a text without blanks, slashes and control characters.",
        "/plan/nodes/0/agent": "Expected 1 to 64 of A-Z a-z 0-9 _ -.",
        "/plan/nodes/0/action": "Expected only A-Z a-z 0-9 _ . -.",
    }


def test_every_pattern_of_a_request_has_words() -> None:
    bodies = [m for m in vars(commands).values() if isinstance(m, type) and issubclass(m, Door)]
    _, found = models_json_schema([(m, "validation") for m in bodies if m is not Door])
    patterns = set(re.findall(r'"pattern": "(.*?)"[,}]', json.dumps(found)))
    assert patterns
    assert {json.loads(f'"{p}"') for p in patterns} <= set(WORDS)
