"""An agent that thinks with a model: tools, bounds, what is spent, and falling silent at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from tests.llm_stub import running, says, tool_call

from handrail_agents.catalog.pace import Pace
from handrail_agents.catalog.refund import refund_assistant
from handrail_sdk.agent import Agent
from handrail_sdk.ai import EndpointModel, endpoint_from
from handrail_sdk.context import Context
from handrail_sdk.failures import DefinitionError, Escalated, Fail, Proposed
from handrail_sdk.llm import Message, Reply, Tool, ToolCall, converse
from handrail_sdk.recorded import RecordedModel, Recording
from handrail_sdk.testing import call, context
from handrail_simulators import World

ASK = [Message("user", "hello")]


class Plays:
    def __init__(self, *replies: Reply) -> None:
        self.replies, self.heard = list(replies), list[list[Message]]()

    async def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        self.heard.append(list(messages))
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


async def add(a: int, b: int = 1) -> dict[str, int]:
    """Adds two numbers."""
    return {"sum": a + b}


def wants(**arguments: Any) -> Reply:
    return Reply(calls=(ToolCall("add", arguments, "c1"),), input_tokens=10, output_tokens=5, cost_usd=0.001, model="m")


@pytest.fixture
def ctx() -> Context:
    agent = Agent("thinker")

    @agent.task()
    async def think(x: int) -> int:
        return x

    return context(think)


async def test_tools_are_run_until_there_is_a_text_and_all_is_counted(ctx: Context) -> None:
    model = Plays(wants(a=1, b=2), Reply("it is 3", input_tokens=20, output_tokens=5, cost_usd=0.002, model="m"))
    assert await converse(model, ASK, [Tool(add)], ctx) == "it is 3"
    assert ctx.usage == {"calls": 2, "input_tokens": 30, "output_tokens": 10, "cost_usd": 0.003, "model": "m"}
    assert model.heard[1][-1] == Message("tool", '{"sum": 3}', name="add", id="c1")


def test_a_tool_is_described_by_its_function() -> None:
    tool = Tool(add)
    assert (tool.name, tool.description, tool.schema["required"]) == ("add", "Adds two numbers.", ["a"])


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (wants(a="one"), "error: 1 validation error"),
        (wants(c=1), "error: "),
        (Reply(calls=(ToolCall("rm", {"path": "/"}),)), "error: Expected one of the tools add"),
    ],
)
async def test_what_a_model_calls_wrongly_is_told_to_it(ctx: Context, wanted: Reply, told: str) -> None:
    model = Plays(wanted, Reply("ok"))
    assert await converse(model, ASK, [Tool(add)], ctx) == "ok"
    assert model.heard[1][-1].text.startswith(told)


async def test_a_tool_that_breaks_is_no_end(ctx: Context) -> None:
    async def broken() -> None:
        raise RuntimeError("the shop is closed")

    model = Plays(Reply(calls=(ToolCall("broken", {}),)), Reply("sorry"))
    assert await converse(model, ASK, [Tool(broken)], ctx) == "sorry"
    assert "the shop is closed" in model.heard[1][-1].text


@pytest.mark.parametrize("bound", [{"most_turns": 3}, {"most_tokens": 40}])
async def test_a_model_that_never_ends_is_ended(ctx: Context, bound: dict[str, int]) -> None:
    with pytest.raises(Fail) as failed:
        await converse(Plays(wants(a=1)), ASK, [Tool(add)], ctx, **bound)
    assert (failed.value.code, failed.value.retryable) == ("MODEL_BUDGET_SPENT", False)
    assert ctx.usage["calls"] == 3


# falling silent


async def silent(function: Any, **fields: Any) -> Escalated:
    agent = Agent("talker")
    task = agent.task(name="talk")(function)
    with pytest.raises(Escalated) as raised:
        await call(task, {"text": "x"}, **fields)
    return raised.value


async def test_an_agent_that_swallows_the_hand_over_is_silent_all_the_same() -> None:
    async def swallows(inputs: dict[str, Any], ctx: Context) -> str:
        with contextlib.suppress(Exception):
            await ctx.escalate_to_human("first")
        return "let me go on talking"

    async def breaks(inputs: dict[str, Any], ctx: Context) -> str:
        try:
            await ctx.escalate_to_human("first")
        except Escalated as e:
            raise RuntimeError("a framework wrapped it") from e

    async def twice(inputs: dict[str, Any], ctx: Context) -> str:
        with contextlib.suppress(Exception):
            await ctx.escalate_to_human("first")
        return await ctx.escalate_to_human("second")

    for function in (swallows, breaks, twice):
        assert (await silent(function)).escalation.reason == "first"


# the refund assistant


async def assist(message: str, order_id: str | None = "12345", **more: Any) -> tuple[Any, Context]:
    nowhere: Any = None
    task = refund_assistant(World(nowhere, "default"), Pace(0), **more).tasks["assist"]
    ctx = context(task)
    return await call(task, {"message": message, "order_id": order_id}, ctx), ctx


async def test_the_refund_assistant_looks_up_and_answers_from_a_recording() -> None:
    answer, ctx = await assist("When does my refund come?")
    assert answer == {"response": "The refund for order 12345 is on its way. It takes up to five working days."}
    assert (ctx.usage["calls"], ctx.usage["model"]) == (2, "recorded-support-1")
    assert (await assist("When does my refund come?"))[0] == answer


async def test_the_model_hands_over_by_itself_what_it_cannot_answer() -> None:
    with pytest.raises(Escalated) as raised:
        await assist("Where is my parcel?", "70404")
    told = raised.value.escalation
    assert (told.reason, told.metadata["triggers"]) == ("The parcel of order 70404 is lost.", ["model"])
    assert "70404" in told.summary and told.handover_message


async def test_money_that_is_due_is_proposed_with_what_the_shop_knows() -> None:
    with pytest.raises(Proposed) as raised:
        await assist("The jacket went back to you on Monday. Please pay me back.", "12300")
    told = raised.value.proposed
    assert (told.action, told.args) == ("refund", {"order_id": "12300", "amount": 53})
    assert told.summary == "Refund 53.00 for order 12300"
    assert told.diff == {
        "before": {"refunded": 0, "kept by the shop": 53},
        "after": {"refunded": 53, "kept by the shop": 0},
    }
    assert (told.reversible, told.affected, told.domain, told.confidence) == (False, 1, "money", 0.86)


@pytest.mark.parametrize(("order_id", "amount"), [("12300", 53.01), ("12300", -1), ("12345", 1)])
async def test_a_model_that_wants_to_pay_what_is_not_due_is_told_so_and_nothing_is_proposed(
    order_id: str, amount: float
) -> None:
    asks = Reply(calls=(ToolCall("refund_order", {"order_id": order_id, "amount": amount, "confidence": 1}),))
    model = Plays(asks, Reply(text="I cannot do that."))
    answer, _ = await assist("Give me money", order_id, model=model)
    assert answer == {"response": "I cannot do that."}
    assert "at most" in model.heard[-1][-1].text


async def test_triggers_hand_over_whatever_the_model_would_say() -> None:
    class Never:
        async def reply(self, messages: Any, tools: Any) -> Reply:
            raise Fail("MODEL_UNAVAILABLE")

    with pytest.raises(Escalated) as raised:
        await assist("I was charged twice, I want a person", model=Never())
    told = raised.value.escalation
    assert told.reason == "The customer was charged twice and asks for a person."
    assert told.summary.endswith("It is about order 12345.")
    assert told.metadata["triggers"] == ["charged_twice", "wants_person"]


# recordings and endpoints


async def test_what_was_not_recorded_is_said_plainly() -> None:
    model = RecordedModel(
        Recording.model_validate({"model": "m", "takes": [{"matches": "^a (?P<x>.)", "text": "{x}!"}]})
    )
    assert (await model.reply([Message("user", "A b")], [])).text == "b!"
    with pytest.raises(Fail) as failed:
        await model.reply([Message("user", "c")], [])
    assert failed.value.code == "NOT_RECORDED"


def test_an_endpoint_is_two_settings() -> None:
    assert endpoint_from({}) is None
    found = endpoint_from({"HANDRAIL_AI__BASE_URL": "http://127.0.0.1:9/v1", "HANDRAIL_AI__MODEL": "m"})
    assert found is not None and (found.model, found.api_key) == ("m", None)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"HANDRAIL_AI__BASE_URL": "nowhere", "HANDRAIL_AI__MODEL": "m"}, "HANDRAIL_AI__BASE_URL"),
        ({"HANDRAIL_AI__BASE_URL": "http://x"}, "HANDRAIL_AI__MODEL"),
        (
            {
                "HANDRAIL_AI__BASE_URL": "http://x",
                "HANDRAIL_AI__MODEL": "m",
                "HANDRAIL_AI__API_KEY": "sk-1",
                "HANDRAIL_AI__X": "1",
            },
            "HANDRAIL_AI__X",
        ),
    ],
)
def test_a_wrong_setting_is_named_and_no_key_is_shown(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(DefinitionError, match=named) as raised:
        endpoint_from(wrong)
    assert "sk-1" not in str(raised.value)


async def test_any_openai_compatible_endpoint_answers_and_is_paid(ctx: Context) -> None:
    async with running() as llm:
        llm.play(tool_call("add", {"a": 2}), says("it is 3"))
        settings = {
            "HANDRAIL_AI__BASE_URL": llm.url,
            "HANDRAIL_AI__MODEL": "m1",
            "HANDRAIL_AI__API_KEY": "sk-secret",
            "HANDRAIL_AI__INPUT_USD_PER_MILLION": "10",
            "HANDRAIL_AI__OUTPUT_USD_PER_MILLION": "50",
        }
        endpoint = endpoint_from(settings)
        assert endpoint is not None
        assert await converse(EndpointModel(endpoint), ASK, [Tool(add)], ctx) == "it is 3"
        assert llm.keys == ["Bearer sk-secret"] * 2
        assert llm.asked[0]["tools"][0]["function"]["name"] == "add"
        assert llm.asked[1]["messages"][-1]["content"] == '{"sum": 3}'
    assert ctx.usage == {"calls": 2, "input_tokens": 200, "output_tokens": 40, "cost_usd": 0.004, "model": "m1"}
    with pytest.raises(Fail) as failed:
        await EndpointModel(endpoint).reply(ASK, [])
    assert (failed.value.code, failed.value.retryable) == ("MODEL_UNAVAILABLE", True)
