"""Whose requests come in: the same rule as the gateway's, name by name."""

from __future__ import annotations

import pytest

from handrail_notifier.entrypoints.door import accepts_stream, host_of, is_ours, origin_host

CONFIGURED = frozenset({"handrail.example", "[fd00::1]"})


@pytest.mark.parametrize(
    "authority",
    [
        "localhost",
        "LocalHost:8080",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8082",
        "handrail.example",
        "Handrail.Example:443",
        "[fd00::1]:80",
    ],
)
def test_names_of_this_machine_and_configured_ones_are_ours(authority: str) -> None:
    assert is_ours(host_of(authority), CONFIGURED)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@localhost",
        "localhost:99999999",
        "localhost/x",
        "local host",
        "0.0.0.0",
        "10.0.0.1",
        "localhost,evil.example",
        "127.0.0.1\t",
    ],
)
def test_all_other_names_are_foreign(authority: str) -> None:
    assert not is_ours(host_of(authority), CONFIGURED)


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("http://localhost:5173", True),
        ("https://handrail.example", True),
        ("HTTP://127.0.0.1", True),
        ("null", False),
        ("", False),
        ("file://localhost", False),
        ("http://evil.example", False),
        ("http://evil.example#localhost", False),
        ("localhost", False),
        ("http://localhost:80/path", False),
    ],
)
def test_an_origin_is_ours_by_scheme_and_host(origin: str, ours: bool) -> None:
    assert is_ours(origin_host(origin), CONFIGURED) is ours


@pytest.mark.parametrize(
    ("accept", "yes"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("text/*", True),
        ("text/event-stream", True),
        ("text/html, text/event-stream;q=0.5", True),
        ("application/json", False),
        ("text/html", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000, text/html", False),
        ("application/json;x=text/event-stream", False),
    ],
)
def test_an_accept_must_allow_a_stream(accept: str | None, yes: bool) -> None:
    assert accepts_stream(accept) is yes
