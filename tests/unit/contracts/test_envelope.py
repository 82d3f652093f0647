"""Headers: the short way of reading what we write ourselves says what the long way says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from handrail_contracts.envelope import BadEnvelope, Envelope, Headers, from_headers, plain_headers, read, to_headers
from handrail_contracts.model import iso, ms_of

PLAIN = plain_headers(b"t/w/1", b"dev.handrail.x.v1", b"/here", "é".encode(), b"2026-11-27T15:00:00.000Z")


@pytest.mark.parametrize(
    "headers",
    [
        PLAIN,
        plain_headers(b"", b"", b"", b"", b""),
        to_headers(Envelope("i", "t", "/s")),
        to_headers(Envelope("i", "t", "/s", "w", "now", "00-trace")),
        to_headers(Envelope("i", "t", "/s", "w", extensions={"tenant": "acme"})),
        [PLAIN[0], *reversed(PLAIN[1:-1]), PLAIN[-1]],
        [*PLAIN[:4], ("other", b"\xff"), *PLAIN[5:]],
        [*PLAIN[:4], PLAIN[3], *PLAIN[5:]],
    ],
)
def test_every_order_of_headers_is_read_alike(headers: Headers) -> None:
    assert read(headers, b"{}") == read(tuple(headers), b"{}") == (from_headers(headers), b"{}")


@pytest.mark.parametrize(
    ("at", "header", "said"),
    [
        (0, ("ce_specversion", b"0.3"), "1.0"),
        (1, ("id", b"x"), "ce_id"),
        (2, ("ce_type", b"\xff"), "UTF-8"),
        (5, ("ce_time", None), "UTF-8"),
    ],
)
def test_what_is_no_envelope_is_refused_in_the_short_way_too(at: int, header: tuple[str, bytes], said: str) -> None:
    with pytest.raises(BadEnvelope, match=said):
        read([*PLAIN[:at], header, *PLAIN[at + 1 :]], b"{}")


def test_instants_are_written_and_read_alike() -> None:
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    for ms in (-1, 0, 1, 999, 1000, 951_782_399_999, 951_782_400_000, 1_795_000_000_123, 253_402_300_799_999):
        written = (begin + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
        assert iso(ms) == written.replace("+00:00", "Z")
        assert ms_of(iso(ms)) == ms
