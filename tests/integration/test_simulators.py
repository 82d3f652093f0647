"""The outside world keeps its promises on a real PostgreSQL: once per effect key, undone only what stands, never lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from handrail_simulators import Withdrawn, World, effects, ensure, ledger
from handrail_simulators.bank import Refused
from handrail_store import connect

TENANT = "default"


@dataclass(frozen=True)
class Asks:
    """A caller."""

    trace_id: str = "t"
    node_id: str = "a"
    attempt: int = 1
    generation: int = 0
    undo_order: int | None = None

    @property
    def key(self) -> str:
        return f"{TENANT}/{self.trace_id}/{self.node_id}/{self.generation}"

    @property
    def effect_key(self) -> str:
        return self.key if self.undo_order is None else f"{self.key}/undo/{self.undo_order}"

    @property
    def do_key(self) -> str | None:
        return None if self.undo_order is None else self.key


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    made = await connect.pool(empty_database, app="test-simulators", max_size=8)
    await ensure(made)
    yield made
    await made.close()


@pytest.fixture
def world(pool: Any) -> World:
    return World(pool, TENANT)


async def rows(pool: Any, trace_id: str = "t") -> list[tuple[str, str, int]]:
    """(node, kind, repeats), in order."""
    return [(r["node_id"], r["kind"], r["repeats"]) for r in await ledger(pool, TENANT, trace_id)]


async def test_the_schema_can_be_ensured_by_many_at_once(make_database: Any) -> None:
    dsn = await make_database()
    pools = [await connect.pool(dsn, app="test-simulators", max_size=2) for _ in range(4)]
    try:
        await asyncio.gather(*(ensure(p) for p in pools for _ in range(2)))
        assert await ledger(pools[0], TENANT, "t") == []
    finally:
        for p in pools:
            await p.close()


async def test_a_ledger_entry_has_the_fields_of_the_contract(world: World, pool: Any) -> None:
    by = Asks(attempt=2)
    await world.ledger.do(by, {"po": "1"})
    (entry,) = await ledger(pool, TENANT, "t")
    at = entry.pop("at")
    assert entry == {
        "trace_id": "t",
        "node_id": "a",
        "attempt": 2,
        "effect_key": "default/t/a/0",
        "kind": "do",
        "repeats": 0,
    }
    assert at.endswith("Z")


async def test_a_known_effect_key_gets_the_first_answer_and_is_counted(world: World, pool: Any) -> None:
    assert await world.ledger.do(Asks(), {"po": 1}) == {"po": 1}
    assert await world.ledger.do(Asks(attempt=2), {"po": 2}) == {"po": 1}
    assert await World(pool, TENANT).ledger.do(Asks(attempt=3), {"po": 3}) == {"po": 1}
    assert await rows(pool) == [("a", "do", 2)]


async def test_another_generation_is_another_effect(world: World, pool: Any) -> None:
    await world.ledger.do(Asks(), 1)
    assert await world.ledger.do(Asks(generation=1), 2) == 2
    assert await rows(pool) == [("a", "do", 0), ("a", "do", 0)]


async def test_an_undo_is_written_only_where_a_do_stands(world: World, pool: Any) -> None:
    assert await world.ledger.undo(Asks(node_id="never", undo_order=0)) is False
    assert await rows(pool) == []
    await world.ledger.do(Asks(), 1)
    assert await world.ledger.undo(Asks(undo_order=1)) is True
    assert await world.ledger.undo(Asks(undo_order=1)) is True
    assert await world.ledger.undo(Asks(undo_order=2)) is False
    assert await rows(pool) == [("a", "do", 0), ("a", "undo", 1)]


async def test_what_its_undo_has_overtaken_is_refused(world: World, pool: Any) -> None:
    assert await world.ledger.undo(Asks(undo_order=0)) is False
    for by in (Asks(), Asks(attempt=2)):
        with pytest.raises(Withdrawn):
            await world.ledger.do(by, 1)
    assert await world.ledger.find(Asks()) == (False, None)
    assert await world.ledger.undo(Asks(undo_order=1)) is False
    assert await rows(pool) == []
    assert await world.ledger.do(Asks(generation=1), 2) == 2


async def test_a_transfer_whose_reversal_has_overtaken_it_is_refused(world: World, pool: Any) -> None:
    assert await world.bank.reverse(by=Asks(undo_order=0)) is False
    with pytest.raises(Withdrawn):
        await world.bank.transfer("x", 10, by=Asks())
    assert await world.bank.balance(by=Asks()) == 1000
    assert await rows(pool) == []


@pytest.mark.parametrize("what", ["ledger", "bank"])
async def test_of_a_do_and_its_undo_at_once_nothing_stands(pool: Any, what: str) -> None:
    """From processes of their own, in either order: it is done and undone, or it is refused."""
    worlds = [World(pool, TENANT) for _ in range(3)]
    keys = [Asks(node_id=f"n{i}") for i in range(30)]

    async def did(w: World, by: Asks) -> bool:
        try:
            await (w.ledger.do(by, 1) if what == "ledger" else w.bank.deposit(1, by=by))
        except Withdrawn:
            return False
        return True

    async def undid(w: World, by: Asks) -> bool:
        by = replace(by, undo_order=0)
        return await (w.ledger.undo(by) if what == "ledger" else w.bank.reverse(by=by))

    calls = [call for i, by in enumerate(keys) for call in (did(worlds[i % 2], by), undid(worlds[2], by))]
    answers = await asyncio.gather(*calls)
    assert list(answers[::2]) == list(answers[1::2])
    assert Counter(kind for _, kind, _ in await rows(pool)) == Counter(
        {"do": sum(answers[::2])} | {"undo": sum(answers[1::2])}
    )
    assert await worlds[0].bank.balance(by=Asks()) == 1000


async def test_where_there_is_no_key_a_call_under_way_is_waited_for(
    world: World, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "SETTLES_S", 3.0)
    undo = asyncio.create_task(world.ledger.undo(Asks(undo_order=0), keyless=True))
    found = asyncio.create_task(world.ledger.find(Asks()))
    await asyncio.sleep(0.2)
    assert not undo.done() and not found.done()
    await World(pool, TENANT).ledger.do(Asks(), 1, keyless=True)
    assert await undo is True
    assert await found == (True, 1)


async def test_a_ledger_made_before_there_were_tombstones_takes_them(world: World, pool: Any) -> None:
    await pool.execute(
        "ALTER TABLE simulators.ledger DROP CONSTRAINT ledger_kinds, "
        "ADD CONSTRAINT ledger_kind_check CHECK (kind IN ('do', 'undo'))"
    )
    await asyncio.gather(*(ensure(pool) for _ in range(3)))
    assert await world.ledger.undo(Asks(undo_order=0)) is False
    with pytest.raises(Withdrawn):
        await world.ledger.do(Asks(), 1)


async def test_an_undo_from_another_workflow_is_noted_where_the_do_stands(world: World, pool: Any) -> None:
    await world.ledger.do(Asks(), 1)
    late = Asks(undo_order=3)

    @dataclass(frozen=True)
    class Elsewhere:
        trace_id: str = "other"
        node_id: str = "undo"
        attempt: int = 1
        effect_key: str = late.effect_key
        do_key: str | None = late.do_key

    assert await world.ledger.undo(Elsewhere()) is True
    assert await rows(pool) == [("a", "do", 0), ("a", "undo", 0)]
    assert await rows(pool, "other") == []


async def test_a_provider_without_keys_appends_every_call(world: World, pool: Any) -> None:
    for attempt in (1, 2):
        assert await world.ledger.do(Asks(attempt=attempt), attempt, keyless=True) == attempt
    assert await world.ledger.undo(Asks(undo_order=0), keyless=True) is True
    assert await world.ledger.undo(Asks(undo_order=0), keyless=True) is True
    assert await world.ledger.undo(Asks(node_id="never", undo_order=0), keyless=True) is False
    assert await rows(pool) == [("a", "do", 0), ("a", "do", 0), ("a", "undo", 0), ("a", "undo", 0)]


async def test_many_callers_at_once_get_one_row_and_one_answer_per_key(world: World, pool: Any) -> None:
    worlds = [world, World(pool, TENANT), World(pool, TENANT)]
    keys = [Asks(node_id=f"n{i}") for i in range(40)]
    calls = [(w, by, n) for n, by in enumerate(keys) for w in worlds for _ in range(4)]
    answers = await asyncio.gather(*(w.ledger.do(by, [n, i]) for i, (w, by, n) in enumerate(calls)))
    by_key: dict[str, set[str]] = {}
    for (_, by, _), answer in zip(calls, answers, strict=True):
        by_key.setdefault(by.effect_key, set()).add(str(answer))
    assert [len(given) for given in by_key.values()] == [1] * len(keys)
    assert Counter(await rows(pool)) == Counter({(by.node_id, "do", 11): 1 for by in keys})


async def test_many_undos_at_once_undo_once(world: World, pool: Any) -> None:
    worlds = [world, World(pool, TENANT), World(pool, TENANT)]
    keys = [Asks(node_id=f"n{i}") for i in range(20)]
    await asyncio.gather(*(world.ledger.do(by, 1) for by in keys))
    undone = await asyncio.gather(
        *(w.ledger.undo(replace(by, undo_order=0)) for by in keys for w in worlds for _ in range(3))
    )
    assert set(undone) == {True}
    assert Counter(await rows(pool)) == Counter(
        [(by.node_id, "do", 0) for by in keys] + [(by.node_id, "undo", 8) for by in keys]
    )


async def test_callers_that_come_together_are_written_together(world: World, pool: Any) -> None:
    await asyncio.gather(*(world.ledger.do(Asks(node_id=f"n{i}"), i) for i in range(300)))
    transactions = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM simulators.ledger")
    assert await pool.fetchval("SELECT count(*) FROM simulators.ledger") == 300
    assert transactions < 30


async def test_a_write_that_fails_is_told_to_its_caller_and_the_next_one_works(world: World, pool: Any) -> None:
    await pool.execute("ALTER TABLE simulators.ledger RENAME TO away")
    results = await asyncio.gather(*(world.ledger.do(Asks(node_id=n), 1) for n in "abc"), return_exceptions=True)
    assert [type(r).__name__ for r in results] == ["UndefinedTableError"] * 3
    await pool.execute("ALTER TABLE simulators.away RENAME TO ledger")
    assert await world.ledger.do(Asks(), 1) == 1


async def test_a_caller_that_leaves_does_not_hold_the_others_up(world: World, pool: Any) -> None:
    leaves = asyncio.ensure_future(world.ledger.do(Asks(node_id="leaves"), 1))
    stays = asyncio.ensure_future(world.ledger.do(Asks(node_id="stays"), 1))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays == 1
    assert ("leaves", "do", 0) in await rows(pool)


async def test_answers_of_any_shape_come_back_as_they_were(world: World) -> None:
    for n, answer in enumerate([None, "\x00 \ud800 ü", {"a": [1, 2.5, None]}, 2**70, True]):
        by = Asks(node_id=f"n{n}")
        assert await world.ledger.do(by, answer) == answer
        assert await world.ledger.do(by, "another") == answer


async def test_three_vendors_refuse_what_is_out_of_stock_and_a_named_vendor_sells_it(world: World, pool: Any) -> None:
    refused = await world.vendors.quote("MBP-OUT-OF-STOCK")
    assert (refused.status, refused.json()) == (404, {"error": "SKU_UNAVAILABLE"})
    offer = await world.vendors.quote("MBP-OUT-OF-STOCK", "https://vendor.example/mbp16")
    assert (offer.status, offer.vendor) == (200, "https://vendor.example/mbp16")
    assert (await world.vendors.quote("MBP-16")).status == 200
    assert await rows(pool) == []
    order = await world.vendors.buy(offer, by=Asks())
    assert order["vendor"] == "https://vendor.example/mbp16"
    assert await world.vendors.cancel(by=Asks(undo_order=0)) is True
    assert await rows(pool) == [("a", "do", 0), ("a", "undo", 0)]


async def test_each_workflow_has_an_account_of_its_own(world: World) -> None:
    one, two = Asks(trace_id="one"), Asks(trace_id="two")
    assert await world.bank.balance(by=one) == 1000
    assert await world.bank.transfer("Alice", 50, by=one) == {"amount": 50, "to": "Alice", "balance": 950}
    assert await world.bank.balance(by=one) == 950
    assert await world.bank.balance(by=two) == 1000
    assert await world.bank.deposit(0.25, by=two) == {"amount": 0.25, "balance": 1000.25}


async def test_a_transfer_happens_once_per_effect_key_however_often_it_is_asked_for(world: World, pool: Any) -> None:
    answers = await asyncio.gather(*(world.bank.transfer("Alice", 100, by=Asks(attempt=n)) for n in range(1, 9)))
    assert answers == [{"amount": 100, "to": "Alice", "balance": 900}] * 8
    assert await world.bank.balance(by=Asks()) == 900
    assert await rows(pool) == [("a", "do", 7)]


async def test_concurrent_bookings_on_one_account_add_up(world: World) -> None:
    await asyncio.gather(*(world.bank.transfer("Alice", 10, by=Asks(node_id=f"n{i}")) for i in range(20)))
    assert await world.bank.balance(by=Asks()) == 800


async def test_a_reversal_gives_the_money_back_once(world: World, pool: Any) -> None:
    assert await world.bank.reverse(by=Asks(node_id="never", undo_order=0)) is False
    await world.bank.transfer("Alice", 300, by=Asks())
    assert await asyncio.gather(*(world.bank.reverse(by=Asks(undo_order=1)) for _ in range(5))) == [True] * 5
    assert await world.bank.reverse(by=Asks(undo_order=2)) is False
    assert await world.bank.balance(by=Asks()) == 1000
    assert await rows(pool) == [("a", "do", 0), ("a", "undo", 4)]


@pytest.mark.parametrize(
    ("amount", "code"),
    [(1000.01, "INSUFFICIENT_FUNDS"), (0, "INVALID_AMOUNT"), (-5, "INVALID_AMOUNT"), (0.001, "INVALID_AMOUNT")],
)
async def test_a_refused_booking_books_nothing(world: World, pool: Any, amount: float, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await world.bank.transfer("Alice", amount, by=Asks())
    assert refused.value.code == code
    assert await rows(pool) == []
    assert await world.bank.balance(by=Asks()) == 1000
