"""Whose pages may use the API: those that were named, whatever they are called in other places."""

from __future__ import annotations

import pytest

from handrail_runtime.cors import Cors, origins_of

NAMED = Cors(origins_of("https://App.example:443, http://localhost:5173"))


def test_nobody_is_allowed_and_nothing_is_sent_where_nobody_is_named() -> None:
    nobody = Cors()
    assert not nobody.allows("https://app.example")
    assert nobody.headers("https://app.example") == []


@pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.EXAMPLE", "http://localhost:5173"])
def test_a_named_origin_may_read_the_answer(origin: str) -> None:
    assert dict(NAMED.headers(origin))[b"access-control-allow-origin"] == origin.encode()


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil",
        "http://localhost",
    ],
)
def test_any_other_origin_gets_only_the_hint_to_caches(origin: str | None) -> None:
    assert NAMED.headers(origin) == [(b"vary", b"Origin")]


def test_a_preflight_names_methods_headers_and_no_credentials() -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answer = dict(NAMED.preflight("OPTIONS", asked) or [])
    assert b"POST" in answer[b"access-control-allow-methods"]
    assert b"Last-Event-ID" in answer[b"access-control-allow-headers"]
    assert b"access-control-allow-credentials" not in answer


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"origin": "https://app.example", "access-control-request-method": "POST"}),
        ("OPTIONS", {"origin": "https://app.example"}),
        ("OPTIONS", {"origin": "https://evil.example", "access-control-request-method": "POST"}),
        ("OPTIONS", {"access-control-request-method": "POST"}),
    ],
)
def test_what_is_no_preflight_of_theirs_is_none(method: str, headers: dict[str, str]) -> None:
    assert NAMED.preflight(method, headers) is None


@pytest.mark.parametrize("text", ["*", "app.example", "https://app.example/", "https://a@b", "ftp://x", "https://"])
def test_what_is_not_an_origin_is_told_at_boot(text: str) -> None:
    with pytest.raises(ValueError, match="Expected origins"):
        origins_of(text)
