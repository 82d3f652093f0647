"""What a list or a search finds is what somebody finds who reads every row, whichever way the statement takes."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from handrail_store import connect, desk, migrate, search, views

Connection = Any
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("laptop", "Lap", "Émile", "MBP-16", "order 12345", "東京", "o'x", "100%", "a_b")


@dataclass(frozen=True)
class Made:
    trace_id: str
    at: datetime
    status: str
    blueprint: str | None
    labels: dict[str, str]
    intent: str | None


@pytest_asyncio.fixture(loop_scope="session")
async def database(empty_database: str) -> AsyncGenerator[Connection]:
    await migrate.upgrade(empty_database, 1)
    pool = await connect.pool(empty_database, app="test", max_size=1)
    async with pool.acquire() as connection:
        yield connection
    await pool.close()


async def workflows(connection: Connection, r: random.Random, count: int) -> list[Made]:
    """Random ones, oldest first; several of them at the same instant."""
    made = [
        Made(
            f"w{r.randrange(100)}-{i}",
            START + timedelta(seconds=i // 3),
            r.choice(["COMPLETED", "COMPLETED", "RUNNING", "FAILED"]),
            r.choice(["onboarding", "transfer", None]),
            {"team": f"t{r.randrange(3)}"} | ({"rare": "yes"} if i == 7 else {}),
            r.choice([None, *(f"Get {word} for {r.randrange(4)}" for word in WORDS)]),
        )
        for i in range(count)
    ]
    for w in made:
        await connection.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, blueprint, labels, intent, created_at, updated_at)"
            " VALUES ($1, 0, 202601, $2, $3, $4, $5, $6, $6)",
            *(w.trace_id, w.status, w.blueprint, w.labels, w.intent, w.at),
        )
    return sorted(made, key=lambda w: (w.at, w.trace_id), reverse=True)


def begins_a_word(text: str, asked: str) -> bool:
    """Read from left to right: at one of its places it does not begin inside of a word."""
    low, sought = text.lower(), asked.lower()
    places = [i for i in range(len(low)) if low.startswith(sought, i)]
    own = not sought[0].isalnum() or unspaced(sought[0])
    return any(own or i == 0 or not low[i - 1].isalnum() or unspaced(low[i - 1]) for i in places)


def unspaced(character: str) -> bool:
    return any(
        low <= character <= high for low, high in ("\u0e00\u0e7f", "\u3040\u30ff", "\u3400\u4dbf", "\u4e00\u9fff")
    )


async def paged(one: Callable[[views.Page], Any], at: str, id_: str, limit: int) -> list[str]:
    found: list[Any] = []
    page = views.Page(limit)
    while True:
        rows = await one(page)
        found += rows
        if len(rows) < limit:
            return [row[id_] for row in found]
        page = views.Page(limit, rows[-1][at], rows[-1][id_])


@pytest.mark.parametrize(("walked", "most"), [(3, 2), (3, 1_000), (40, 10), (10_000, 10_000)])
async def test_every_filter_finds_what_a_reader_of_all_rows_finds(
    database: Connection, monkeypatch: pytest.MonkeyPatch, walked: int, most: int
) -> None:
    monkeypatch.setattr(search, "WALKED", walked)
    monkeypatch.setattr(search, "SORTED", most)
    r = random.Random(walked * 31 + most)
    made = await workflows(database, r, 150)
    texts = [None, "laptop for", "lap", "get émile", "mbp-16", "MBP", "order 123", "w4", "nothing of that", "100%"]
    statuses: list[tuple[str, ...]] = [(), ("FAILED",), ("RUNNING", "FAILED", "FAILED"), ("CANCELLED",)]
    labels = [(), ("team:t1",), ("rare:yes",), ("team:t1", "rare:yes"), ("a:b:c",), ("team:t1", ":".join("abcdefghij"))]
    for q, status, label, blueprint in itertools.product(texts, statuses, labels, (None, "transfer", "none")):
        expected = [
            w.trace_id
            for w in made
            if (not status or w.status in status)
            and blueprint in (None, w.blueprint)
            and {f"{k}:{v}" for k, v in w.labels.items()}.issuperset(label)
            and (q is None or begins_a_word(w.intent or "", q) or w.trace_id.startswith(q))
        ]
        wanted = views.WorkflowFilter(status, blueprint, label, q)
        limit = r.choice([1, 7, 50, 200]) if len(expected) < 40 else 50

        async def one(page: views.Page, wanted: views.WorkflowFilter = wanted) -> Any:
            return await views.workflows(database, "default", wanted, page)

        assert await paged(one, "created_at", "trace_id", limit) == expected, (wanted, limit)


@pytest.mark.parametrize(("walked", "most"), [(2, 1), (2, 1_000), (10_000, 10_000)])
async def test_the_inbox_finds_what_a_reader_of_all_pauses_finds(
    database: Connection, monkeypatch: pytest.MonkeyPatch, walked: int, most: int
) -> None:
    monkeypatch.setattr(search, "WALKED", walked)
    monkeypatch.setattr(search, "SORTED", most)
    r = random.Random(7)
    made = await workflows(database, r, 40)
    pauses: list[tuple[str, str, str, Made, str]] = []
    for i, w in enumerate(reversed(made)):
        node, reason = f"node_{i % 4}", r.choice(["Vendors returned 404.", "Budget exceeded", "x" * 3_000])
        state = "open" if i % 3 else "decided"
        await database.execute(
            "INSERT INTO handrail.pause (pause_id, trace_id, seq, node_id, kind, data, state, opened_at, closed_at)"
            " VALUES ($1, $2, 1, $3, 'failure', $4, $5, $6, $7)",
            *(f"p{i:03}", w.trace_id, node, {"failure_reason": reason}, state, w.at, None if i % 3 else w.at),
        )
        pauses.append((f"p{i:03}", state, f"{node}\n{reason}\n{w.intent or ''}", w, node))
    for state, q, blueprint in itertools.product(
        ("open", "resolved"), (None, "vendors returned", "laptop", "budget", "node_2", "nowhere"), (None, "transfer")
    ):
        expected = [
            pause_id
            for pause_id, stands, told, w, _ in sorted(pauses, key=lambda p: (p[3].at, p[0]), reverse=True)
            if (stands == "open") == (state == "open")
            and blueprint in (None, w.blueprint)
            and (q is None or begins_a_word(told, q))
        ]
        wanted = desk.PauseFilter(state, q=q, blueprint=blueprint)

        for most in (1_000, 2):

            async def one(page: views.Page, wanted: desk.PauseFilter = wanted, most: int = most) -> Any:
                rows, total = await desk.inbox(database, "default", wanted, page, total_up_to=most)
                assert total == min(most, len(expected)), (wanted, page)  # noqa: B023  called before the next turn
                return rows

            at = "opened_at" if state == "open" else "closed_at"
            assert await paged(one, at, "pause_id", 4) == expected, wanted


async def test_a_search_knows_words_of_any_script_and_no_text_is_too_strange_to_be_kept(database: Connection) -> None:
    r = random.Random(5)
    strange = [
        "".join(chr(r.choice([*range(1, 0x250), *range(0x3040, 0x30FF), 0x1F600])) for _ in range(300))
        for _ in range(30)
    ]
    texts = ["東京タワーへ行く", "x" * 10_000, "Größe 42", "' & ! | :* \\ <->", "", "\u200b\u0301", *strange]
    for i, text in enumerate(texts):
        await database.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, intent, created_at, updated_at)"
            " VALUES ($1, 0, 202601, 'RUNNING', $2, now(), now())",
            *(f"s{i}", text),
        )

    async def found(q: str) -> list[str]:
        return [
            w["trace_id"] for w in await views.workflows(database, "default", views.WorkflowFilter(q=q), views.Page(50))
        ]

    assert await found("タワー") == ["s0"]
    assert await found("京タ") == ["s0"]
    assert await found("x" * 100) == ["s1"]
    assert await found("grö") == await found("GRÖSSE"[:3] + "ße") == ["s2"]
    assert await found("röße") == []  # the middle of a word
    for q in ("' & !", ":*", "\\", "<->", "%", *strange):
        assert isinstance(await found(q[:256]), list)


async def test_what_an_index_finds_and_what_is_asked_of_a_row_is_the_same(database: Connection) -> None:
    r = random.Random(11)
    pieces = [
        "lap",
        "top",
        "TOP",
        "é",
        "É",
        "ß",
        "1",
        "42",
        "x" * 45,
        "東",
        "京",
        "ก",
        "_",
        "-",
        " ",
        "\n",
        "%",
        "\\",
        ".",
        "'",
        "(",
        "[a]",
    ]

    def text(most: int) -> str:
        return "".join(r.choice(pieces) for _ in range(r.randint(1, most)))

    texts = [text(9) for _ in range(400)] + ["laptop lap x top", "Laptop for order 12345", "東京タワーへ行く"]
    asked = [text(3) for _ in range(150)] + ["top", "top lap", "lap x top", "order 123", "京タ", "--", "aptop for"]
    agreed = 0
    for q in asked:
        arguments: list[object] = [texts]

        def bind(value: object, arguments: list[object] = arguments) -> str:
            arguments.append(value)
            return f"${len(arguments)}"

        said = search.said("t", q, bind)
        rows = await database.fetch(
            f"SELECT t, coalesce({said.by_index}, false) AS by_index, coalesce({said.by_row}, false) AS by_row"
            " FROM unnest($1::text[]) AS t",
            *arguments,
        )
        for row in rows:
            reader = any(c.isalnum() for c in q) and begins_a_word(row["t"], q)
            assert (row["by_index"], row["by_row"]) == (reader, reader), (q, row["t"])
            agreed += reader
    assert agreed > 1_000


@pytest.mark.parametrize("portion", [1, 2, 500])
async def test_decisions_come_in_order_whatever_the_portion(
    database: Connection, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(desk, "_PORTION", portion)
    for i in range(9):
        at, blueprint = START + timedelta(seconds=i // 2), "transfer" if i % 3 else "onboarding"
        await database.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, blueprint, created_at, updated_at)"
            " VALUES ($1, 0, 202601, 'RUNNING', $2, $3, $3)",
            *(f"t{i}", blueprint, at),
        )
        await database.execute(
            "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at) VALUES ($1, $2, 1, $3, '{}', $4)",
            *(f"d{i}", f"t{i}", "gate" if i == 4 else "failure", at),
        )
        await database.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, actor, channel, decided_at)"
            " VALUES ($1, $2, 'decided', 'ana', 'api', $3)",
            *(f"d{i}", f"t{i}", at),
        )

    async def read(*narrowed: Any) -> list[str]:
        return [row["pause_id"] async for row in desk.decisions(lambda: nullcontext(database), "default", *narrowed)]

    assert await read(None) == [f"d{i}" for i in range(9)]
    assert await read(START + timedelta(seconds=2)) == [f"d{i}" for i in range(4, 9)]
    assert await read(None, "onboarding") == ["d0", "d3", "d6"]
    assert await read(START, "transfer", ("gate",)) == ["d4"]

    reading = desk.decisions(lambda: nullcontext(database), "default", None)
    told = [(await anext(reading))["pause_id"]]  # type: ignore[call-overload]
    await database.execute(
        "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at) VALUES ('later', 't0', 2, 'gate', '{}', $1)",
        START,
    )
    await database.execute(
        "INSERT INTO handrail.decision (pause_id, trace_id, outcome, actor, channel, decided_at)"
        " VALUES ('later', 't0', 'decided', 'ana', 'api', $1)",
        START + timedelta(days=1),
    )
    assert told + [row["pause_id"] async for row in reading] == [f"d{i}" for i in range(9)]
