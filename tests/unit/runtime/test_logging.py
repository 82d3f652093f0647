"""Logs: one JSON object per line on standard error, whoever writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from handrail_runtime.logging import configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, told = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**told)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert out == "", "standard output belongs to what a command answers"
    return [json.loads(line) for line in err.splitlines()]


def test_our_events_and_the_librarys_come_out_as_json_with_level_time_and_service(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("gateway", as_json=True)
    structlog.get_logger("x").info("node_dispatched", node_id="a", attempt=1)
    logging.getLogger("some.library").warning("it %s", "complains")
    ours, theirs = _lines(capsys)
    assert (ours["event"], ours["node_id"], ours["attempt"], ours["level"], ours["service"]) == (
        "node_dispatched",
        "a",
        1,
        "info",
        "gateway",
    )
    assert str(ours["timestamp"]).endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["service"]) == ("it complains", "warning", "gateway")


def test_levels_below_the_threshold_and_chatty_libraries_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    configure("gateway", "warning", as_json=True)
    structlog.get_logger("x").info("unseen")
    logging.getLogger("aiokafka.consumer").info("unseen")
    structlog.get_logger("x").warning("seen")
    assert [line["event"] for line in _lines(capsys)] == ["seen"]


def test_an_address_that_a_library_cannot_read_is_not_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    configure("notifier", "debug", as_json=True)
    logging.getLogger("apprise").error("Unparseable URL %s", "tgramm://123:SECRET/chat")
    assert _lines(capsys) == []


def test_control_characters_bytes_and_exceptions_stay_within_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("gateway", as_json=True)
    try:
        raise ValueError("first\nsecond \x1b[31m")
    except ValueError:
        structlog.get_logger("x").exception("batch_failed", raw=b"\xff\n", odd="\u202e\x00")
    (line,) = _lines(capsys)
    assert "ValueError: first" in str(line["exception"])
    assert line["raw"] == repr(b"\xff\n")


def test_context_variables_and_a_bound_service_are_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("up", as_json=True)
    with structlog.contextvars.bound_contextvars(trace_id="t-1"):
        structlog.get_logger("x").bind(service="notifier").info("ring_opened")
    (line,) = _lines(capsys)
    assert (line["trace_id"], line["service"]) == ("t-1", "notifier")


def test_configuring_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure("a", as_json=True)
    configure("b", as_json=True)
    structlog.get_logger("x").info("once")
    (line,) = _lines(capsys)
    assert line["service"] == "b"


def test_on_a_terminal_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("gateway", as_json=False)
    structlog.get_logger("x").info("node_dispatched", node_id="a")
    err = capsys.readouterr().err
    assert "node_dispatched" in err
    assert not err.startswith("{")


def test_a_traceback_on_a_terminal_shows_no_values_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure("gateway", as_json=False)

    def fails(password: str) -> None:
        raise ValueError("it broke")

    try:
        fails("".join(("hunter", "2")))
    except ValueError:
        structlog.get_logger("handrail.test").exception("request_failed")
    told = capsys.readouterr().err
    assert "it broke" in told and "Traceback" in told
    assert "hunter2" not in told and "password = " not in told
