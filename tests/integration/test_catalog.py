"""The catalog's agents do to the simulated world what they say, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.waiting import wait_until

from handrail_agents.catalog import agents
from handrail_sdk import Escalated, Fail, TaskDefinition
from handrail_sdk.failures import Garbage, Silence
from handrail_sdk.testing import call, context, look_up, undo
from handrail_simulators import World, ensure, ledger
from handrail_store import connect

Tasks = dict[tuple[str, str], TaskDefinition[Any]]
HERE = {"trace_id": "t", "node_id": "n"}


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    made = await connect.pool(empty_database, app="test-catalog", max_size=4)
    await ensure(made)
    yield made
    await made.close()


@pytest.fixture
def tasks(pool: Any) -> Tasks:
    return {(a.name, t.action): t for a in agents(World(pool, "default"), delay_ms=0) for t in a.tasks.values()}


@pytest.fixture
def script(tasks: Tasks) -> TaskDefinition[Any]:
    return tasks["simulator", "script"]


async def kinds(pool: Any) -> list[str]:
    return [r["kind"] for r in await ledger(pool, "default", "t")]


@pytest.mark.parametrize(
    ("agent", "action", "inputs"),
    [
        ("hr_bot", "create_record", {"employee": "Ada", "department": "Engineering"}),
        ("mailbox_bot", "create_mailbox", {"employee": "Ada"}),
        ("hardware_procurement_bot", "order_laptop", {"sku": "MBP-16", "budget": 2500, "department": "Engineering"}),
        ("payroll_bot", "enroll", {"employee": "Ada"}),
        ("bank", "transfer", {"to": "Alice", "amount": 50}),
        ("bank", "deposit", {"amount": 50}),
    ],
)
async def test_an_effect_happens_once_and_is_undone_once(
    tasks: Tasks, pool: Any, agent: str, action: str, inputs: dict[str, Any]
) -> None:
    task = tasks[agent, action]
    assert task.effect == "idempotent"
    output = await call(task, inputs, **HERE)
    assert await call(task, inputs, attempt=2, **HERE) == output
    assert await kinds(pool) == ["do"]
    await undo(task, inputs, output, **HERE)
    await undo(task, inputs, None, attempt=2, **HERE)
    assert await kinds(pool) == ["do", "undo"]
    assert [r["repeats"] for r in await ledger(pool, "default", "t")] == [1, 1]


async def test_what_never_happened_is_undone_without_a_trace(tasks: Tasks, pool: Any) -> None:
    await undo(tasks["hr_bot", "create_record"], {"employee": "Ada", "department": "Engineering"}, None, **HERE)
    assert await kinds(pool) == []


async def test_three_vendors_without_stock_are_a_failure_with_their_words(tasks: Tasks, pool: Any) -> None:
    task = tasks["hardware_procurement_bot", "order_laptop"]
    told: list[Any] = []
    ctx = context(task, on_progress=lambda p, m: told.append(m), **HERE)
    with pytest.raises(Fail) as failed:
        await call(task, {"sku": "MBP-OUT-OF-STOCK", "budget": 2500, "department": "Engineering"}, ctx)
    failure = failed.value.failure()
    assert (failure.code, failure.retryable) == ("SKU_UNAVAILABLE", True)
    assert failure.message == "All approved vendors returned 404 for requested Macbook Pro SKU."
    assert failure.evidence == {"error": "SKU_UNAVAILABLE"}
    assert len(told) == 2
    assert await kinds(pool) == []
    named = {"sku": "MBP-OUT-OF-STOCK", "vendor_url": "https://vendor.example/mbp16"}
    assert (await call(task, named, **HERE))["vendor"] == "https://vendor.example/mbp16"


async def test_the_undo_of_a_mailbox_fails_where_the_input_says_so(tasks: Tasks, pool: Any) -> None:
    task = tasks["mailbox_bot", "create_mailbox"]
    inputs = {"employee": "Ada", "fail_compensation": "email"}
    output = await call(task, inputs, **HERE)
    with pytest.raises(Fail, match="MAILBOX_LOCKED"):
        await undo(task, inputs, output, **HERE)
    assert await kinds(pool) == ["do"]


async def test_a_transfer_answers_amount_to_and_balance_as_whole_numbers(tasks: Tasks) -> None:
    assert await call(tasks["bank", "balance_check"], {"account": "checking"}, **HERE) == {
        "account": "checking",
        "balance": 1000,
    }
    sent = await call(tasks["bank", "transfer"], {"to": "Alice", "amount": 50}, **HERE)
    assert sent == {"amount": 50, "to": "Alice", "balance": 950}
    assert isinstance(sent["balance"], int)


async def test_money_that_is_not_there_is_refused_for_good(tasks: Tasks, pool: Any) -> None:
    with pytest.raises(Fail) as failed:
        await call(tasks["bank", "transfer"], {"to": "Alice", "amount": 5000}, **HERE)
    assert (failed.value.code, failed.value.retryable) == ("INSUFFICIENT_FUNDS", False)
    assert failed.value.evidence == {"error": "INSUFFICIENT_FUNDS", "balance": 1000}
    assert await kinds(pool) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("I was charged twice, I want a person", "The customer was charged twice and asks for a person."),
        ("You billed my card twice!", "The customer was charged twice."),
        ("Let me talk to somebody", "The customer asks for a person."),
    ],
)
async def test_a_customer_who_needs_a_person_gets_one(tasks: Tasks, message: str, reason: str) -> None:
    with pytest.raises(Escalated) as raised:
        await call(tasks["refund_assistant", "assist"], {"order_id": "12345", "message": message})
    told = raised.value.escalation
    assert told.reason == reason
    assert told.metadata["order_id"] == "12345"
    assert [set(line) for line in told.transcript] == [{"role", "text", "at"}] * 2
    assert (told.transcript[0]["role"], told.transcript[0]["text"]) == ("user", message)
    assert told.handover_message


async def test_a_customer_who_needs_no_person_is_answered(tasks: Tasks) -> None:
    task = tasks["refund_assistant", "assist"]
    answer = await call(task, {"order_id": "12345", "message": "When does my refund come?"})
    assert "12345" in answer["response"]


async def test_a_refund_that_is_approved_is_paid_once_without_asking_a_model(tasks: Tasks, pool: Any) -> None:
    task = tasks["refund_assistant", "assist"]
    asked = {"order_id": "12300", "message": "Please pay me back."}
    approved = {"order_id": "12300", "amount": 40}
    answers = [await call(task, asked, approved=approved, **HERE) for _ in range(2)]
    assert answers[0] == answers[1] and "40.00 of order 12300 is refunded" in answers[0]["response"]
    assert await kinds(pool) == ["do"]
    with pytest.raises(Fail) as failed:
        await call(task, asked, approved={"order_id": "12345", "amount": 40}, **HERE)
    assert (failed.value.code, failed.value.retryable) == ("NOTHING_TO_REFUND", False)


async def test_a_conversation_that_is_handed_back_is_gone_on_with(tasks: Tasks) -> None:
    said = [{"role": "user", "text": "I want a person"}, {"role": "operator", "text": "The money is on its way."}]
    answer = await call(tasks["refund_assistant", "assist"], {"message": "I want a person"}, conversation=said)
    assert "The money is on its way." in answer["response"]


async def test_a_script_takes_one_outcome_per_attempt_and_then_the_last(script: TaskDefinition[Any], pool: Any) -> None:
    inputs = {"outcomes": ["error:TIMEOUT", "fatal:BAD", "ok"], "output": {"po": "1"}}
    with pytest.raises(Fail) as first:
        await call(script, inputs, attempt=1, **HERE)
    with pytest.raises(Fail) as second:
        await call(script, inputs, attempt=2, **HERE)
    assert [(e.value.code, e.value.retryable) for e in (first, second)] == [("TIMEOUT", True), ("BAD", False)]
    assert await kinds(pool) == []
    assert await call(script, inputs, attempt=3, **HERE) == {"po": "1"}
    assert await call(script, inputs, attempt=9, **HERE) == {"po": "1"}
    assert [(r["kind"], r["attempt"], r["repeats"]) for r in await ledger(pool, "default", "t")] == [("do", 3, 1)]


async def test_a_script_without_output_echoes_its_inputs(script: TaskDefinition[Any]) -> None:
    for n, inputs in enumerate([{}, {"outcomes": ["ok"]}, {"anything": {"else": [1, None]}, "duration_ms": 1}]):
        assert await call(script, inputs, node_id=f"n{n}", trace_id="t") == inputs
    assert await call(script, {"output": None}, node_id="null", trace_id="t") is None


async def test_an_undo_of_a_script_follows_its_own_script(script: TaskDefinition[Any], pool: Any) -> None:
    inputs = {"undo": ["error:BUSY", "ok"], "undo_duration_ms": 1}
    output = await call(script, inputs, **HERE)
    with pytest.raises(Fail, match="BUSY"):
        await undo(script, inputs, output, attempt=1, **HERE)
    assert await kinds(pool) == ["do"]
    assert await undo(script, inputs, output, attempt=2, **HERE) == {"undone": True}
    assert await kinds(pool) == ["do", "undo"]


async def test_a_keyless_script_appends_every_call(script: TaskDefinition[Any], pool: Any) -> None:
    inputs = {"keyless": True}
    for attempt in (1, 2):
        await call(script, inputs, attempt=attempt, **HERE)
    await undo(script, inputs, inputs, **HERE)
    assert await kinds(pool) == ["do", "do", "undo"]


async def test_a_look_up_of_a_script_tells_what_the_ledger_knows(script: TaskDefinition[Any], pool: Any) -> None:
    with pytest.raises(Fail, match="NOT_FOUND"):
        await look_up(script, {"outcomes": ["hang"]}, **HERE)
    await call(script, {"output": {"po": "1"}}, **HERE)
    assert await look_up(script, {"outcomes": ["hang"]}, **HERE) == {"po": "1"}
    assert await kinds(pool) == ["do"]


async def test_a_script_that_hangs_never_answers(script: TaskDefinition[Any], pool: Any) -> None:
    with pytest.raises(Silence):
        await call(script, {"outcomes": ["hang"]}, **HERE)
    assert await kinds(pool) == []


async def test_a_late_script_does_it_and_answers_afterwards(script: TaskDefinition[Any], pool: Any) -> None:
    silent = asyncio.Event()
    ctx = context(script, on_silence=silent.set, **HERE)
    late = asyncio.ensure_future(call(script, {"outcomes": ["late:60000"], "output": 1}, ctx))

    async def done() -> bool:
        return await kinds(pool) == ["do"]

    await wait_until(done, description="the effect is in the ledger")
    await wait_until(silent.is_set, description="the attempt is silent")
    assert not late.done()
    late.cancel()
    assert await call(script, {"outcomes": ["late:1"], "output": 1}, **HERE) == 1


async def test_a_script_escalates_or_answers_garbage_without_an_effect(script: TaskDefinition[Any], pool: Any) -> None:
    with pytest.raises(Escalated, match="out of my depth"):
        await call(script, {"outcomes": ["escalate:out of my depth"]}, **HERE)
    with pytest.raises(Garbage):
        await call(script, {"outcomes": ["garbage"]}, **HERE)
    assert await kinds(pool) == []


@pytest.mark.parametrize("outcome", ["", "OK", "error", "error:", "late:", "late:soon", "late:-1", "explode"])
async def test_an_outcome_that_is_none_is_told(script: TaskDefinition[Any], outcome: str) -> None:
    with pytest.raises(Fail) as failed:
        await call(script, {"outcomes": [outcome]}, **HERE)
    assert (failed.value.code, failed.value.retryable) == ("invalid-input", False)
    assert failed.value.evidence[0]["pointer"] == "/outcomes/0"


async def test_noop_gives_back_what_it_got_and_leaves_no_trace(tasks: Tasks, pool: Any) -> None:
    assert await call(tasks["simulator", "noop"], {"a": 1}, **HERE) == {"a": 1}
    assert await kinds(pool) == []
