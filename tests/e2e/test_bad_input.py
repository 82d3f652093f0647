"""RELIABILITY's bad input B1-B20 at the door, by hand: exact statuses, exact codes, a pointer where there is a place."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.e2e.strange import Strange, fresh, problem, script


def refused(handrail: Strange, body: Any, status: int, code: str) -> dict[str, Any]:
    return problem(handrail.post("/workflows", body), status, code)


def plan(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"plan": {"nodes": list(nodes)}, **more}


@pytest.mark.parametrize(
    "body", [b"{", b'{"intent": "x",}', b"", b"intent=x", b"{'intent': 'x'}", b"\xef\xbb\xbfnull x"]
)
def test_b1_what_is_not_json_is_told_with_line_and_column(handrail: Strange, body: bytes) -> None:
    detail = refused(handrail, body, 400, "malformed-json")["detail"]
    assert "line" in detail
    assert "column" in detail


def test_b2_another_media_type_is_refused_and_the_right_one_named(handrail: Strange) -> None:
    for headers in ({"Content-Type": "text/json"}, {"Content-Type": "application/xml"}, {}):
        answer = handrail.http.post("/workflows", content=b'{"intent": "x"}', headers=headers)
        assert "application/json" in problem(answer, 415, "unsupported-media-type")["detail"]
    coded = handrail.http.post(
        "/workflows", content=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    problem(coded, 415, "unsupported-media-type")


def test_b3_a_body_that_is_too_large_is_refused_on_the_wire(handrail: Strange) -> None:
    mib = 1024 * 1024
    too_much = b'{"intent": "' + b"x" * (8 * mib) + b'"}'
    assert "8" in problem(handrail.post("/workflows", too_much), 413, "payload-too-large")["detail"]
    name = handrail.start(plan={"nodes": [script("a")]})
    comment = b'{"comment": "' + b"x" * mib + b'"}'
    problem(handrail.post(f"/workflows/{name}/pause", comment), 413, "payload-too-large")
    head = b"POST /workflows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    # A Content-Length that promises too much is refused before a byte of it is sent.
    status, answer = handrail.raw(head + b"Content-Length: 99999999999\r\n\r\n")
    assert status == 413
    assert b"connection: close" in answer.lower()


def test_b3_chunks_that_never_end_are_cut_off(handrail: Strange) -> None:
    host, port = handrail.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(
            b"POST /workflows HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        sent = 0
        try:
            for _ in range(64):
                s.sendall(chunk)
                sent += 1
        except OSError:
            pass
        assert sent < 64, "64 MiB were taken without a word"


def test_b4_depth_and_length_are_bounded(handrail: Strange) -> None:
    deep = b'{"input": ' + b"[" * 70 + b"]" * 70 + b', "intent": "x"}'
    refused(handrail, deep, 400, "too-deep")
    refused(handrail, b'{"input": ' + b"[" * 500_000, 400, "too-deep")
    refused(handrail, {"intent": "x", "input": {"a": [0] * 1_000_001}}, 422, "too-many-items")


def test_b5_a_key_that_stands_twice_is_refused_with_its_pointer(handrail: Strange) -> None:
    found = refused(handrail, b'{"intent": "x", "input": {"a": 1, "a": 2}}', 400, "duplicate-key")
    assert found["errors"][0]["pointer"] == "/input/a"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "9007199254740993", "1e400", "1" + "0" * 400])
def test_b6_numbers_out_of_range_are_refused(handrail: Strange, number: str) -> None:
    refused(handrail, f'{{"intent": "x", "input": {{"n": {number}}}}}'.encode(), 400, "number-out-of-range")


@pytest.mark.parametrize("text", [b'"\xff"', b'"\\ud800"', b'"a\\u0000b"', b'"\xed\xa0\x80"'])
def test_b7_text_that_cannot_be_stored_is_refused(handrail: Strange, text: bytes) -> None:
    refused(handrail, b'{"intent": ' + text + b"}", 400, "invalid-text")


def test_b8_an_unknown_field_is_told_with_the_nearest_known_name(handrail: Strange) -> None:
    found = refused(handrail, {"intnet": "x"}, 422, "unknown-field")
    assert "intent" in json.dumps(found)
    nested = refused(handrail, plan({**script("a"), "depends": []}), 422, "unknown-field")
    assert "depends_on" in json.dumps(nested)


def test_b9_all_that_is_missing_or_wrong_is_told_at_once(handrail: Strange) -> None:
    found = refused(handrail, {"intent": 5, "labels": [], "deadline_s": "soon"}, 422, "validation")
    assert {e["pointer"] for e in found["errors"]} >= {"/intent", "/labels", "/deadline_s"}
    refused(handrail, {}, 422, "validation")
    refused(handrail, b"[]", 422, "validation")
    refused(handrail, {"blueprint": "bank-transfer", **plan(script("a"))}, 422, "validation")


def test_b10_to_b14_what_is_no_dag_is_refused(handrail: Strange) -> None:
    refused(handrail, plan(), 422, "empty-dag")
    cycle = refused(handrail, plan(script("a", "b"), script("b", "a")), 422, "dag-cycle")
    assert "a → b → a" in cycle["detail"] or "b → a → b" in cycle["detail"]
    refused(handrail, plan(script("a", "a")), 422, "dag-cycle")
    unknown = refused(handrail, plan(script("a"), script("b", "zzz")), 422, "unknown-dependency")
    assert unknown["errors"][0]["pointer"] == "/plan/nodes/1/depends_on/0"
    assert "zzz" in unknown["detail"]
    refused(handrail, plan(script("a"), script("a")), 422, "duplicate-node")
    refused(handrail, plan(script("caf\u00e9"), script("cafe\u0301")), 422, "duplicate-node")
    refused(handrail, plan(script("Node"), script("nODE")), 422, "duplicate-node")


def test_b15_a_plan_that_is_too_large_is_refused_with_limit_and_count(handrail: Strange) -> None:
    small = {"agent": "simulator", "action": "script"}
    found = refused(handrail, plan(*({"id": f"n{i}", **small} for i in range(10_001))), 422, "dag-too-large")
    assert "10,000" in found["detail"] or "10000" in found["detail"]
    assert "10,001" in found["detail"] or "10001" in found["detail"]
    names = [f"n{i}" for i in range(450)]
    dense = [{"id": name, **small, "depends_on": names[:i]} for i, name in enumerate(names)]
    refused(handrail, plan(*dense), 422, "dag-too-large")


def test_b16_unknown_agents_actions_and_blueprints_are_refused(handrail: Strange) -> None:
    refused(handrail, plan({**script("a"), "agent": "nobody"}), 422, "unknown-agent")
    refused(handrail, plan({**script("a"), "action": "dance"}), 422, "unknown-agent")
    refused(handrail, {"blueprint": "no-such-thing"}, 422, "unknown-blueprint")
    refused(handrail, {"intent": "zzz qqq xyzzy"}, 422, "no-plan")
    refused(handrail, {"blueprint": "employee-onboarding", "input": {"budget": "much"}}, 422, "validation")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 1_000_000),
        ("initial_delay_s", -1),
        ("multiplier", 0),
        ("max_delay_s", -5),
        ("total_timeout_s", 0),
    ],
)
def test_b17_an_absurd_retry_policy_is_told_field_by_field(handrail: Strange, field: str, value: float) -> None:
    found = refused(handrail, plan({**script("a"), "retry": {field: value}}), 422, "invalid-retry-policy")
    assert found["errors"][0]["pointer"] == f"/plan/nodes/0/retry/{field}"


def test_b19_a_trace_id_is_checked_and_taken_once(handrail: Strange) -> None:
    for bad in ("", "a b", "x" * 65, "a/b", "\u00e9", "../x"):
        refused(handrail, plan(script("a"), trace_id=bad), 400, "invalid-trace-id")
    name = handrail.start(**plan(script("a")), trace_id=fresh())
    refused(handrail, plan(script("a"), trace_id=name), 409, "trace-id-taken")


def test_b20_an_unknown_workflow_is_404_everywhere(handrail: Strange) -> None:
    for path in ("/state", "/events", "/journal", "/explain"):
        problem(handrail.get(f"/workflows/nobody{path}"), 404, "workflow-not-found")
    for path, body in (("/resume", {"action_id": "RES_SKIP"}), ("/pause", {}), ("/cancel", {})):
        problem(handrail.post(f"/workflows/nobody{path}", body), 404, "workflow-not-found")
    problem(handrail.get("/pauses/nobody"), 404, "pause-not-found")


def test_quotes_of_the_input_are_short_and_escaped(handrail: Strange) -> None:
    found = refused(handrail, {"blueprint": "\u001b[31m<b>" + "x" * 500}, 422, "unknown-blueprint")
    assert "\u001b" not in found["detail"]
    assert "x" * 100 not in found["detail"]


@pytest.mark.parametrize("value", ["2026-13-01", "yesterday", -5, 1e12, "PT5M"])
def test_times_that_make_no_sense_are_refused(handrail: Strange, value: Any) -> None:
    answer = handrail.post("/workflows", {**plan(script("a")), "deadline_s": value})
    assert answer.status_code == 422
    problem(handrail.get("/feedback.jsonl?since=yesterday"), 422, "invalid-time")
