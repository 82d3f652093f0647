"""A task takes and gives JSON; what does not fit is a definite failure, what it raises itself is left as it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from handrail_contracts.codec import decode, encode
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.policy import action_digest
from handrail_contracts.tasks import Outcome, Result
from handrail_contracts.topics import RESULTS
from handrail_sdk import Agent, Context, Escalated, Fail, Proposed
from handrail_sdk.failures import INVALID_INPUT, SECOND_PROPOSAL, DefinitionError, Garbage, jsonable
from handrail_sdk.testing import call, context, look_up, undo


class In(BaseModel):
    day: date
    amount: Decimal = Decimal(0)
    who: str = Field(default="x", alias="from")


class Out(BaseModel):
    day: date
    to_whom: str = Field(alias="to")


@pytest.fixture
def agent() -> Agent:
    return Agent("a")


async def test_values_become_types_and_types_become_json(agent: Agent) -> None:
    @agent.task()
    async def send(inputs: In, ctx: Context) -> Out:
        assert isinstance(inputs.day, date)
        return Out(day=inputs.day, to=inputs.who)

    assert await call(send, {"day": "2026-01-31", "from": "Ada"}) == {"day": "2026-01-31", "to": "Ada"}
    assert await call(send, In.model_validate({"day": date(2026, 1, 31), "from": "Ada"})) == {
        "day": "2026-01-31",
        "to": "Ada",
    }


async def test_the_context_and_even_the_inputs_may_be_left_out(agent: Agent) -> None:
    @agent.task()
    async def nothing() -> str:
        return "done"

    @agent.task()
    async def only_context(ctx: Context) -> str:
        return ctx.effect_key

    @agent.task()
    async def by_type(inputs: In, somehow: Context) -> int:
        return somehow.attempt

    @agent.task()
    async def plain(inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    @agent.task()
    async def untyped(inputs):  # type: ignore[no-untyped-def]
        return inputs

    assert await call(nothing, {"what": "ever"}) == "done"
    assert await call(only_context, trace_id="t", node_id="n") == "default/t/n/0"
    assert await call(by_type, {"day": "2026-01-31"}, attempt=2) == 2
    assert await call(plain, {"a": [1, None]}) == {"a": [1, None]}
    assert await call(untyped, {"a": 1}) == {"a": 1}


async def test_dataclasses_and_typed_dicts_are_inputs_too(agent: Agent) -> None:
    @dataclass
    class Point:
        x: int

    class Shape(TypedDict):
        points: list[int]

    @agent.task()
    async def draw(point: Point) -> Shape:
        return {"points": [point.x]}

    assert await call(draw, {"x": 1}) == {"points": [1]}
    with pytest.raises(Fail, match="invalid-input"):
        await call(draw, {"x": "one"})


async def test_inputs_that_do_not_fit_fail_for_good_and_nothing_runs(agent: Agent) -> None:
    ran: list[In] = []

    @agent.task()
    async def never(inputs: In) -> None:
        ran.append(inputs)

    @never.compensate
    async def undo_never(inputs: In) -> None:
        ran.append(inputs)

    for attempt in (call(never, {"day": "soon"}), undo(never, {"day": "soon"})):
        with pytest.raises(Fail) as failed:
            await attempt
        assert (failed.value.code, failed.value.retryable) == ("invalid-input", False)
        assert failed.value.evidence[0]["pointer"] == "/day"
        assert "day" in failed.value.message
    assert ran == []


@pytest.mark.parametrize("given", [{"day": "soon", "to": "x"}, {"to": "x"}, None, 3, object()])
async def test_an_output_that_does_not_fit_fails_for_good(agent: Agent, given: Any) -> None:
    @agent.task()
    async def wrong(inputs: dict[str, Any]) -> Out:
        return given

    with pytest.raises(Fail) as failed:
        await call(wrong)
    assert (failed.value.code, failed.value.retryable) == ("invalid-result", False)


async def test_an_output_that_is_no_json_fails_for_good(agent: Agent) -> None:
    @agent.task()
    async def odd() -> Any:
        return {"a": object()}

    @agent.task()
    async def circle() -> Any:
        endless: list[Any] = []
        endless.append(endless)
        return endless

    for task in (odd, circle):
        with pytest.raises(Fail, match="invalid-result"):
            await call(task)


async def test_a_dict_that_fits_the_model_is_as_good_as_the_model(agent: Agent) -> None:
    @agent.task()
    async def loose() -> Out:
        return {"day": "2026-01-31", "to": "x"}  # pyright: ignore[reportReturnType] lenient on purpose

    assert await call(loose) == {"day": "2026-01-31", "to": "x"}


async def test_what_a_task_raises_is_not_touched(agent: Agent) -> None:
    @agent.task()
    async def breaks(inputs: dict[str, Any]) -> None:
        raise {"key": KeyError, "garbage": Garbage, "fail": lambda: Fail("NO", "no", retry_after_s=2.5)}[
            inputs["how"]
        ]()

    with pytest.raises(KeyError):
        await call(breaks, {"how": "key"})
    with pytest.raises(Garbage):
        await call(breaks, {"how": "garbage"})
    with pytest.raises(Fail) as failed:
        await call(breaks, {"how": "fail"})
    assert failed.value.failure().retry_after_s == 2.5


async def test_a_task_that_wants_no_context_runs_without_one(agent: Agent) -> None:
    @agent.task()
    async def plain(inputs: In) -> Out:
        return Out(day=inputs.day, to="x")

    @agent.task()
    async def curious(inputs: In, ctx: Context) -> str:
        return ctx.trace_id

    assert (plain.wants_context, curious.wants_context) == (False, True)
    assert await plain.run({"day": "2026-01-31"}, None) == await call(plain, {"day": "2026-01-31"})
    with pytest.raises(Fail) as failed:
        await plain.run({"day": "never"}, None)
    assert failed.value.code == INVALID_INPUT


async def test_an_undo_takes_what_it_wants_of_inputs_output_and_context(agent: Agent) -> None:
    seen: list[Any] = []

    async def do(inputs: In) -> Out:
        return Out(day=inputs.day, to="x")

    async def all_of_it(inputs: In, output: Out | None, ctx: Context) -> None:
        seen.append((inputs.day, output, ctx.do_key, ctx.effect_key))

    async def no_context(inputs: In, output: Out | None) -> None:
        seen.append(output)

    async def no_output(inputs: In, ctx: Context) -> None:
        seen.append(ctx.do_key)

    async def bare() -> None:
        seen.append("bare")

    day, made = date(2026, 1, 31), Out(day=date(2026, 1, 31), to="x")
    for name, function in {"1": all_of_it, "2": no_context, "3": no_output, "4": bare}.items():
        task = agent.task(name=name)(do)
        task.compensate(function)
        assert await undo(task, {"day": "2026-01-31"}, made, trace_id="t", node_id="n") is None
    key = "default/t/n/0"
    assert seen == [(day, made, key, f"{key}/undo/0"), made, key, "bare"]


async def test_an_unknown_output_and_one_of_another_shape_are_none_to_the_undo(agent: Agent) -> None:
    seen: list[Out | None] = []

    @agent.task()
    async def do(inputs: dict[str, Any]) -> Out: ...  # pyright: ignore[reportReturnType] never run

    @do.compensate
    async def undo_do(inputs: dict[str, Any], output: Out | None) -> dict[str, bool]:
        seen.append(output)
        return {"undone": True}

    assert await undo(do, {}, None) == {"undone": True}
    assert await undo(do, {}, {"it": "happened"}) == {"undone": True}
    assert seen == [None, None]


async def test_what_has_no_undo_or_look_up_says_so(agent: Agent) -> None:
    @agent.task()
    async def do() -> None: ...

    with pytest.raises(Fail, match="not-compensatable"):
        await undo(do)
    with pytest.raises(Fail, match="not-queryable"):
        await look_up(do)


async def test_a_look_up_answers_what_the_task_would_have_or_that_nothing_happened(agent: Agent) -> None:
    @agent.task(effect="queryable")
    async def do(inputs: dict[str, Any]) -> Out: ...  # pyright: ignore[reportReturnType] never run

    @do.look_up
    async def find(inputs: dict[str, Any], ctx: Context) -> Out:
        if inputs["there"]:
            return Out(day=date(2026, 1, 31), to=ctx.effect_key)
        raise Fail("NOT_FOUND")

    found = await look_up(do, {"there": True}, trace_id="t", node_id="n")
    assert found == {"day": "2026-01-31", "to": "default/t/n/0"}
    with pytest.raises(Fail, match="NOT_FOUND"):
        await look_up(do, {"there": False})


async def test_a_task_called_directly_is_the_function_that_was_written(agent: Agent) -> None:
    @agent.task()
    async def double(inputs: int) -> int:
        return inputs * 2

    assert await double(21) == 42


async def test_an_escalation_carries_everything_that_a_person_needs(agent: Agent) -> None:
    @agent.task()
    async def ask(ctx: Context) -> None:
        await ctx.escalate_to_human(
            "no idea",
            summary="s",
            transcript=[{"role": "user", "text": "hi", "at": date(2026, 1, 31)}],
            metadata={"amount": Decimal("1.5")},
            handover_message="bye",
        )

    with pytest.raises(Escalated) as raised:
        await call(ask)
    told = raised.value.escalation
    assert (told.reason, told.summary, told.handover_message) == ("no idea", "s", "bye")
    assert told.transcript == [{"role": "user", "text": "hi", "at": "2026-01-31"}]
    assert told.metadata == {"amount": "1.5"}


async def test_a_proposal_carries_the_whole_action(agent: Agent) -> None:
    @agent.task()
    async def pay(ctx: Context) -> str:
        if ctx.approved is not None:
            return f"paid {ctx.approved['amount']}"
        await ctx.propose("transfer", {"amount": 500}, summary="Pay 500", reversible=False, confidence=0.5)
        raise AssertionError("it went on without approval")

    with pytest.raises(Proposed) as raised:
        await call(pay)
    proposed = raised.value.proposed
    assert (proposed.action, proposed.args, proposed.reversible, proposed.confidence) == (
        "transfer",
        {"amount": 500},
        False,
        0.5,
    )
    assert await call(pay, approved={"amount": 400}) == "paid 400"


async def test_a_proposal_that_is_swallowed_is_asked_all_the_same(agent: Agent) -> None:
    """As an agent framework does that tells its model that a tool has failed."""

    @agent.task()
    async def swallows(ctx: Context) -> str:
        try:
            await ctx.propose("refund", {"amount": 30})
        except Exception:  # noqa: BLE001  # as a framework does
            return "It is refunded."
        return "never"

    @agent.task()
    async def breaks(ctx: Context) -> str:
        try:
            await ctx.propose("refund", {"amount": 30})
        except Proposed as e:
            raise RuntimeError("a framework wrapped it") from e
        return "never"

    for task in (swallows, breaks):
        with pytest.raises(Proposed) as raised:
            await call(task)
        assert raised.value.proposed.args == {"amount": 30}
        digest = action_digest("refund", {"amount": 30})
        assert await call(task, approved={"amount": 20}, approval={"proposed": digest}) == "never", (
            "once approved it acts"
        )


async def test_an_undo_and_a_look_up_that_swallow_a_hand_over_have_not_succeeded(agent: Agent) -> None:
    @agent.task(effect="queryable")
    async def pay(ctx: Context) -> str:
        return "paid"

    @pay.compensate
    async def unpay(inputs: dict[str, Any], paid: Any, ctx: Context) -> None:
        with contextlib.suppress(Exception):
            await ctx.escalate_to_human("I cannot undo it.")

    @pay.look_up
    async def find(inputs: dict[str, Any], ctx: Context) -> str:
        with contextlib.suppress(Exception):
            await ctx.escalate_to_human("I cannot find it.")
        return "paid"

    for door in (undo, look_up):
        with pytest.raises(Escalated):
            await door(pay)


async def test_a_second_action_after_one_that_was_let_pass_is_no_proposal(agent: Agent) -> None:
    """Each approval runs the task from its beginning: two in one task would do the first again and again."""
    done: list[str] = []

    @agent.task()
    async def two(ctx: Context) -> str:
        await ctx.propose("refund", {"amount": 30})
        done.append("refund")
        with contextlib.suppress(Exception):
            await ctx.propose("mail", {"to": "ada"})
        return "both"

    with pytest.raises(Proposed):
        await call(two)
    digest = action_digest("refund", {"amount": 30})
    with pytest.raises(Fail) as raised:
        await call(two, approved={"amount": 30}, approval={"proposed": digest})
    assert (raised.value.code, raised.value.retryable) == (SECOND_PROPOSAL, False)
    assert "after the one that was approved it proposes mail" in raised.value.message and done == ["refund"]


class Rude:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("code", "message", "wait", "told"),
    [
        (404, ValueError("gone"), "soon", ("404", "gone", None)),
        (None, None, float("nan"), ("", "", None)),
        ("X", Rude(), float("inf"), ("X", "Rude", None)),
        ("X", "a\ud800b", Decimal("1.5"), ("X", "a?b", 1.5)),
    ],
)
def test_a_failure_is_told_whatever_it_was_made_of(code: Any, message: Any, wait: Any, told: Any) -> None:
    failure = Fail(code, message, retry_after_s=wait).failure()
    assert (failure.code, failure.message, failure.retry_after_s) == told


async def test_nobody_is_left_without_a_person_for_how_it_was_asked(agent: Agent) -> None:
    @agent.task()
    async def ask(ctx: Context) -> None:
        odd: Any = ctx.escalate_to_human
        await odd(KeyError("order"), None, ["hello", {"role": "user", "text": "hi"}], [("a", 1)], 5)

    with pytest.raises(Escalated) as raised:
        await call(ask)
    told = raised.value.escalation
    assert (told.reason, told.summary, told.handover_message) == ("'order'", "", "5")
    assert told.transcript == [{"text": "hello"}, {"role": "user", "text": "hi"}]
    assert told.metadata == {"metadata": [["a", 1]]}

    @agent.task(name="blank")
    async def blank(ctx: Context) -> None:
        await ctx.escalate_to_human("  ", transcript="all of it")

    with pytest.raises(Escalated) as raised:
        await call(blank)
    assert raised.value.escalation.reason == "The agent asks for a person."
    assert raised.value.escalation.transcript == [{"text": "all of it"}]


async def test_what_is_counted_and_shown_on_the_way_fails_nothing(agent: Agent) -> None:
    seen: list[Any] = []

    @agent.task()
    async def work(ctx: Context) -> None:
        spend: Any = ctx.spend
        spend(input_tokens="7", output_tokens=-3, cost_usd=Decimal("0.25"), model=4)
        spend(input_tokens=None, output_tokens=float("nan"), cost_usd=float("inf"))
        progress: Any = ctx.progress
        for percent, message in ((float("nan"), Rude()), ("50", "x" * 5_000), (object(), "\ud800")):
            progress(percent, message)

    ctx = context(work, on_progress=lambda percent, message: seen.append((percent, message)))
    await call(work, ctx=ctx)
    assert ctx.usage == {"calls": 2, "input_tokens": 7, "output_tokens": 0, "cost_usd": 0.25, "model": "4"}
    assert seen == [(None, "Rude"), (50.0, "x" * 2_000), (None, "?")]


@pytest.mark.parametrize("args", [{"wei": 10**25}, {"n": float("nan")}, {"t": "a\0b"}, {1: [Decimal("1.50")]}])
async def test_what_was_approved_is_what_was_proposed_however_it_was_carried(
    agent: Agent, args: dict[Any, Any]
) -> None:
    @agent.task()
    async def pay(ctx: Context) -> Any:
        return await ctx.propose("pay", args)

    with pytest.raises(Proposed) as raised:
        await call(pay)
    result = Result(
        trace_id="t", node_id="n", attempt=1, effect_key="k", outcome=Outcome.PROPOSED, proposed=raised.value.proposed
    )
    _, read = decode(RESULTS, to_headers(Envelope("id", ce_type("result"), "/test")), encode(result))
    assert isinstance(read, Result) and read.proposed is not None
    approved = read.proposed.args
    digest = action_digest("pay", approved)
    assert await call(pay, approved=approved, approval={"proposed": digest}) == approved


@pytest.mark.parametrize("wrong", [{"confidence": "high"}, {"affected": 1.5}, {"diff": [1]}])
async def test_a_proposal_that_is_none_says_what_is_wrong_with_it(agent: Agent, wrong: dict[str, Any]) -> None:
    @agent.task()
    async def pay(ctx: Context) -> Any:
        await ctx.propose("pay", {}, **wrong)

    with pytest.raises(DefinitionError, match=f"Expected a proposal of 'pay'.*{next(iter(wrong))}"):
        await call(pay)


async def test_progress_and_silence_go_to_whoever_made_the_context(agent: Agent) -> None:
    told: list[Any] = []

    @agent.task()
    async def long(ctx: Context) -> None:
        ctx.progress(50, "half")
        ctx.progress(message="more")
        ctx.fall_silent()

    await call(long)  # nobody listens
    ctx = context(long, on_progress=lambda p, m: told.append((p, m)), on_silence=lambda: told.append("silent"))
    await call(long, None, ctx)
    assert told == [(50, "half"), (None, "more"), "silent"]


def test_evidence_is_always_json() -> None:
    assert jsonable({"a": date(2026, 1, 31), "b": {1}, "c": b"text"}) == {"a": "2026-01-31", "b": [1], "c": "text"}
    assert jsonable(b"\xff\xfe") == repr(b"\xff\xfe")
    assert jsonable(ValueError("x")) == repr(ValueError("x"))
    circle: list[Any] = []
    circle.append(circle)
    assert isinstance(jsonable(circle), str)


async def test_a_task_adds_steps_as_a_plan_writes_them(agent: Agent) -> None:
    @agent.task()
    async def more(ctx: Context) -> None:
        ctx.add_node("x", "bank.check", {"amount": 5})
        ctx.add_node("y", "bank.pay", after=["x"], irreversible=True)

    ctx = context(more)
    await call(more, ctx=ctx)
    assert ctx.added == [
        {"id": "x", "agent": "bank", "action": "check", "inputs": {"amount": 5}},
        {"id": "y", "agent": "bank", "action": "pay", "depends_on": ["x"], "irreversible": True},
    ]


@pytest.mark.parametrize("task", ["bank", "bank.", ".pay", ""])
def test_what_is_no_step_is_refused_where_it_is_added(agent: Agent, task: str) -> None:
    @agent.task()
    async def more(ctx: Context) -> None: ...

    with pytest.raises(DefinitionError, match="Expected a valid node 'x'"):
        context(more).add_node("x", task)
