"""Keys, cursors, queries, ids, patches: the small pure parts of the gateway."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from handrail_gateway.application import paging
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.feedback import patch
from handrail_gateway.application.registry import PLAN_BYTES, PLANS, Judged, Known
from handrail_gateway.application.trace_ids import uuid7
from handrail_gateway.entrypoints.http import head
from handrail_gateway.entrypoints.http.answers import instance
from handrail_gateway.entrypoints.http.queries import Query


def test_a_uuid7_is_one_and_begins_with_the_time() -> None:
    ids = [uuid.UUID(uuid7()) for _ in range(100)]
    assert {i.version for i in ids} == {7}
    assert {i.variant for i in ids} == {uuid.RFC_4122}
    assert len(set(ids)) == 100
    now_ms = datetime.now(UTC).timestamp() * 1000
    assert abs((ids[0].int >> 80) - now_ms) < 60_000


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ([], None),
        (["abc"], "abc"),
        (['"abc"'], "abc"),
        (['"a\\"b\\\\c"'], 'a"b\\c'),
        (["x" * 255], "x" * 255),
        (["ключ"], "ключ"),
        (['"'], '"'),
    ],
)
def test_idempotency_keys_lose_the_quotes_of_a_structured_string(sent: list[str], key: str | None) -> None:
    assert head.idempotency_key(head.Head(keys=sent)) == key


@pytest.mark.parametrize("sent", [[""], ['""'], ["x" * 256], ["a\tb"], ["a\x7fb"], ["a", "a"]])
def test_bad_idempotency_keys_are_refused(sent: list[str]) -> None:
    with pytest.raises(Refusal) as caught:
        head.idempotency_key(head.Head(keys=sent))
    assert caught.value.code == "idempotency-key-invalid"


# hypothesis wants bounds without a zone
_EARLIEST, _LATEST = (datetime(year, 1, 2, tzinfo=UTC).replace(tzinfo=None) for year in (1970, 2100))


NUL = "WzE3MDAwMDAwMDAwMDAwMDAsIlx1MDAwMCJd"
"""A place as we write it, of an id that PostgreSQL cannot be asked for."""
_IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40)


@given(st.datetimes(_EARLIEST, _LATEST), _IDS)
def test_a_cursor_comes_back_as_the_place_it_was_made_of(at: datetime, id_: str) -> None:
    at = at.replace(tzinfo=UTC)
    page = paging.page(7, paging.of(at, id_))
    assert (page.limit, page.at, page.id) == (7, at, id_)


@pytest.mark.parametrize(
    "cursor", ["x", "%%%", "bnVsbA", "WzEsMl0", "W10", "WyJhIiwiYiJd", paging.of_number(5)[:-1], NUL]
)
def test_a_cursor_that_we_did_not_write_is_refused(cursor: str) -> None:
    for read in (lambda c: paging.page(1, c), paging.number):
        with pytest.raises(Refusal) as caught:
            read(cursor)
        assert caught.value.code == "invalid-cursor"


def query(known: tuple[str, ...], **parameters: Any) -> Query:
    scope = {"type": "http", "query_string": urlencode(parameters, doseq=True).encode(), "headers": []}
    return Query(Request(scope), known)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 50), ("1", 1), ("-5", 1), ("0", 1), ("1000000000", 200), ("9" * 40, 200), ("+7", 7)]
)
def test_a_limit_is_moved_to_the_nearest_end(limit: str | None, expected: int) -> None:
    assert query(("limit",), **({"limit": limit} if limit else {})).limit(50, 200) == expected


@pytest.mark.parametrize(
    ("parameters", "ask"),
    [
        ({"limit": "ten"}, lambda q: q.limit(50, 200)),
        ({"limit": "1.5"}, lambda q: q.limit(50, 200)),
        ({"label": "nocolon"}, lambda q: q.labels("label")),
        ({"label": ":x"}, lambda q: q.labels("label")),
        ({"label": [f"n:{i}" for i in range(65)]}, lambda q: q.labels("label")),
        ({"q": ["a", "b"]}, lambda q: q.text("q")),
        ({"status": "RUNNING,WALKING"}, lambda q: q.many("status", ("RUNNING",))),
        ({"history": "yes"}, lambda q: q.flag("history")),
        ({"q": "a\x00b"}, lambda q: q.text("q")),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], ask: Any) -> None:
    with pytest.raises(Refusal) as caught:
        ask(query(("limit", "label", "q", "status", "history"), **parameters))
    assert caught.value.code == "invalid-query"


@pytest.mark.parametrize(
    ("told", "meant"), [("true", True), ("True", True), ("1", True), ("FALSE", False), ("0", False)]
)
def test_a_flag_may_be_written_as_clients_write_booleans(told: str, meant: bool) -> None:
    assert query(("history",), history=told).flag("history") is meant
    assert query(("history",)).flag("history") is False


def test_an_unknown_parameter_is_told_with_the_nearest_known_one() -> None:
    with pytest.raises(Refusal, match="Did you mean status"):
        query(("status", "limit"), statsu="RUNNING")


def test_labels_may_hold_colons_and_commas() -> None:
    longest = f"{'k' * 128}:{'v' * 128}"
    for asked in (["team:it", "url:http://x,y"], ["k8s:app:web"], ["::x"], [longest]):
        assert query(("label",), label=asked).labels("label") == tuple(asked)


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31",
        "2026-01-31T12:00:00",
        "yesterday",
        "9999-01-01T00:00:00Z",
        "2026-06-30T23:59:60Z",
        "-PT5S",
        "1700000000",
        "2026-W01-1T00:00:00Z",
        "2026-001T00:00:00Z",
        "20260131T120000Z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00+01",
        "٢026-01-31T12:00:00Z",
    ],
)
def test_times_without_a_zone_or_sense_are_refused_with_an_example(time: str) -> None:
    with pytest.raises(Refusal, match="2026-01-31T12:00:00Z") as caught:
        query(("since",), since=time).time("since")
    assert caught.value.code == "invalid-time"


def test_times_with_a_zone_are_read() -> None:
    assert query(("since",), since="2026-01-31T12:00:00Z").time("since") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert query(("since",), since="2026-01-31t12:00:00.0z").time("since") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert query(("since",), since="2026-01-31T13:00:00+01:00").time("since") == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("position", ["-1", "01", "1.0", "x", "1" * 30, "٣"])
def test_positions_that_are_none_are_refused(position: str) -> None:
    with pytest.raises(Refusal) as caught:
        query(("after",), after=position).position("after")
    assert caught.value.code == "invalid-cursor"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/workflows/t-1/state", "/workflows/t-1/state"),
        ('/a b/"<\u202e>\x1b', "/a%20b/%22%3C%E2%80%AE%3E%1B"),
        ("/" + "x" * 500, "/" + "x" * 79),
        ("/" + "y" * 77 + "\u202e" * 100, "/" + "y" * 77),
        (
            f"/workflows/{'t' * 64}/pauses/{'p' * 64}/preview/RES_SKIP",
            f"/workflows/{'t' * 64}/pauses/{'p' * 64}/preview/RES_SKIP",
        ),
        ("/\udcff", "/%3F"),
    ],
)
def test_a_problem_names_its_request_by_a_short_uri_reference(path: str, shown: str) -> None:
    assert instance(path) == shown


def test_of_several_hosts_all_are_counted_and_of_several_origins_none_is_hidden() -> None:
    found = head.read([(b"host", b"localhost"), (b"host", b"evil"), (b"origin", b"http://evil"), (b"origin", b"")])
    assert (found.hosts, found.origin) == (2, "http://evil,")


def test_quotes_are_short_and_hold_nothing_that_a_terminal_obeys() -> None:
    shown = quote("\x1b[31m\u202e" + "x" * 1000)
    assert shown.isprintable()
    assert "\u202e" not in shown
    assert len(shown) < 200


def apply(value: Any, steps: list[dict[str, Any]]) -> Any:
    """RFC 6902 for the three operations that we write, on objects."""
    for step in steps:
        if step["path"] == "":
            value = step["value"]
            continue
        *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in step["path"].split("/")[1:])
        at = value
        for parent in parents:
            at = at[parent]
        if step["op"] == "remove":
            del at[last]
        else:
            at[last] = step["value"]
    return value


_objects = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b/c", "d~e"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_objects, _objects)
def test_a_patch_turns_what_was_proposed_into_what_was_done(before: Any, after: Any) -> None:
    import copy
    import json

    patched = apply(copy.deepcopy(before), patch(before, after))
    assert json.dumps(patched, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert patch(after, after) == []


def test_few_plans_and_small_ones_are_remembered() -> None:
    known, made = Known({}, {}, b""), list[bytes]()

    def ask(written: bytes) -> bytes:
        found = known.plan(written)
        if found is None:
            made.append(written)
            found = Judged(b"compiled " + written, b"null")
            known.remember(written, found)
        return found.plan

    assert [ask(b"hot"), ask(b"hot"), ask(b"hot")] == [b"compiled hot"] * 3
    assert made == [b"hot"]
    for i in range(2 * PLANS):
        ask(b"%d" % i)
        ask(b"hot")
    assert (made.count(b"hot"), len(known.plans)) == (1, PLANS)
    large = b"x" * (PLAN_BYTES + 1)
    ask(large)
    assert large not in known.plans
