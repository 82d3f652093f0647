"""Bytes to messages: what may stand in them, and what is made of what may not."""

from __future__ import annotations

import json

import orjson
import pytest

from handrail_contracts import topics
from handrail_contracts.codec import Undecodable, decode, encode
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.tasks import DeadLetter, Failure, Heartbeat, Outcome, Result, Task

HEADERS = to_headers(Envelope("id", ce_type("result"), "/test"))
TEXTS = {
    "a\0b": "a\ufffdb",
    "\0\0": "\ufffd\ufffd",
    "\\\0": "\\\ufffd",
    "\\u0000": "\\u0000",
    "\\\\u0000\0": "\\\\u0000\ufffd",
    "\ufffd": "\ufffd",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_null_character_of_an_agent_is_read_as_a_character_that_was_none(text: str) -> None:
    said = {"nested": [{text: text}], "also": text}
    error = Failure(code=text, message=text, evidence=said)
    result = Result(
        trace_id="w", node_id="a", attempt=1, effect_key="k", outcome=Outcome.FAILED, output=said, error=error
    )
    want = TEXTS[text]
    as_read = {"nested": [{want: want}], "also": want}
    expected = result.model_copy(
        update={"output": as_read, "error": Failure(code=want, message=want, evidence=as_read)}
    )
    assert decode(topics.RESULTS, HEADERS, encode(result))[1] == expected
    structured = json.dumps({**_ATTRIBUTES, "data": json.loads(encode(result))}).encode()
    assert decode(topics.RESULTS, [("content-type", b"application/cloudevents+json")], structured)[1] == expected


_ATTRIBUTES = {"specversion": "1.0", "id": "id", "type": ce_type("result"), "source": "/test"}


@pytest.mark.parametrize(
    ("number", "read"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" + "0" * 5_000, "1" + "0" * 5_000),
        ("9999999999999999999999.5", 9999999999999999999999.5),
        ("99999999999999999999e1", 1e21),
        ("0.99999999999999999999999", 1.0),
        ("1e-0000000000000000000000001", 0.1),
        ("1234567890123456789", 1234567890123456789),
    ],
)
def test_an_integer_that_no_reader_holds_is_read_as_a_text_with_all_its_digits(number: str, read: int | str) -> None:
    key = r'"1\"2000000000000000000000000: 3"'
    body = f'{{"trace_id":"w","node_id":"a","attempt":1,"effect_key":"k","outcome":"ok","output":[{number},{{{key}:{number}}}]}}'
    _, result = decode(topics.RESULTS, HEADERS, body.encode())
    assert isinstance(result, Result)
    assert result.output == [read, {json.loads(key): read}]
    assert orjson.loads(orjson.dumps(result.output)) == result.output


def test_so_is_one_of_anybody_who_puts_a_dead_letter_or_a_heartbeat_there() -> None:
    _, letter = decode(topics.DEAD_LETTERS, [], b'{"trace_id": "w", "node_id": "a", "reason": "x\\u0000y"}')
    assert isinstance(letter, DeadLetter) and letter.reason == "x\ufffdy"
    beat = Heartbeat(trace_id="w", node_id="a", attempt=1, effect_key="k", worker="w\0")
    assert decode(topics.HEARTBEATS, HEADERS, encode(beat))[1] == beat.model_copy(update={"worker": "w\ufffd"})


def test_a_task_is_read_as_it_was_sent() -> None:
    task = Task(
        trace_id="w",
        node_id="a",
        agent="x",
        action="do",
        attempt=1,
        max_attempts=1,
        effect_key="k",
        inputs={"of old": "a\0b"},
        start_before="2026-11-21T00:00:00Z",
    )
    assert decode(topics.task_topic("x"), HEADERS, encode(task))[1] == task


def test_an_id_with_a_null_character_is_none() -> None:
    result = Result(trace_id="w", node_id="a", attempt=1, effect_key="k", outcome=Outcome.OK)
    with pytest.raises(Undecodable, match=r"Expected a ce_id"):
        decode(topics.RESULTS, to_headers(Envelope("i\0d", ce_type("result"), "/test")), encode(result))
