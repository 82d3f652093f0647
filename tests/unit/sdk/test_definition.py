"""What cannot be an agent is refused where it is written, with a sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from handrail_contracts.plan import Resolution
from handrail_sdk import Abort, Agent, Context, DefinitionError, Retry, Skip

if TYPE_CHECKING:
    from decimal import Decimal


class In(BaseModel):
    a: int
    link: str | None = None


async def fine(inputs: In, ctx: Context) -> int:
    return inputs.a


@pytest.mark.parametrize("name", ["", "two words", "a/b", "ä", "x" * 65])
def test_a_name_that_cannot_be_in_a_topic_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="Expected an agent's name"):
        Agent(name)


def test_no_attempt_at_all_in_flight_is_refused() -> None:
    with pytest.raises(DefinitionError, match="max_in_flight"):
        Agent("a", max_in_flight=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retries": 0}, "valid retries on task a.fine"),
        ({"timeout": "soon"}, "a time such as"),
        ({"timeout": "30 parsecs"}, "a time such as"),
        ({"timeout": -1}, "valid timeout"),
        ({"timeout": "10s", "lease": "20s"}, "lease below the timeout"),
        ({"backoff": "wild"}, "valid backoff"),
        ({"effect": "harmless"}, "one of pure, idempotent, queryable, unsafe"),
        ({"context": {"shown": "budget"}}, "a path such as input.budget"),
        ({"context": {"shown": "input"}}, "a path such as input.budget"),
        ({"context": {"shown": "input.b"}}, "one of the inputs a, link, but found 'b'"),
        ({"resolutions": [Retry("RES_X", "x", sets="url", schema="url")]}, "one of the inputs a, link"),
        ({"resolutions": [Skip("RES_X", "x"), Abort("RES_X", "y")]}, "each resolution once"),
        (
            {"resolutions": [Resolution(action_id="RES_X", display_text="x", kind="stop")]},
            "answers a failure .* kind stop",
        ),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"name": "no spaces"}, "action's name"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Agent("a").task(**options)(fine)


def test_an_action_stands_once_in_an_agent() -> None:
    agent = Agent("a")
    agent.task()(fine)
    with pytest.raises(DefinitionError, match="two named 'fine'"):
        agent.task()(fine)
    assert agent.task(name="finer")(fine).action == "finer"


def test_a_plain_function_is_refused() -> None:
    def blocking(inputs: In) -> int:
        return 1

    with pytest.raises(DefinitionError, match="async def"):
        Agent("a").task()(blocking)  # pyright: ignore[reportArgumentType] the mistake that is tested


def test_inputs_belong_into_one_model() -> None:
    async def many(a: int, b: int, ctx: Context) -> int:
        return a + b

    with pytest.raises(DefinitionError, match="found a, b"):
        Agent("a").task()(many)


def test_keywords_and_star_arguments_are_refused() -> None:
    async def starred(inputs: In, *rest: int) -> int:
        return 1

    async def keyword(inputs: In, *, deep: bool) -> int:
        return 1

    for function in (starred, keyword):
        with pytest.raises(DefinitionError, match="plain parameters"):
            Agent("a").task()(function)


def test_the_context_comes_last() -> None:
    async def first(ctx: Context, inputs: In) -> int:
        return 1

    with pytest.raises(DefinitionError, match="the context as the last"):
        Agent("a").task()(first)


def test_a_type_that_is_only_known_to_the_type_checker_is_refused() -> None:
    async def hidden(inputs: In) -> Decimal: ...  # pyright: ignore[reportReturnType] never run

    with pytest.raises(DefinitionError, match="'Decimal' is not"):
        Agent("a").task()(hidden)


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    class Odd: ...

    async def odd(inputs: In) -> Odd:
        return Odd()

    with pytest.raises(DefinitionError, match=r"the output of task a\.odd"):
        Agent("a").task()(odd)


def test_a_task_has_one_undo_and_one_look_up() -> None:
    task = Agent("a").task()(fine)
    assert not task.compensatable
    assert not task.has_look_up

    @task.compensate
    async def undo(inputs: In, output: int | None, ctx: Context) -> None: ...

    @task.look_up
    async def find(inputs: In) -> int:
        return 1

    assert task.compensatable
    assert task.has_look_up
    with pytest.raises(DefinitionError, match="one compensation"):
        task.compensate(undo)
    with pytest.raises(DefinitionError, match="one look-up"):
        task.look_up(find)


def test_a_queryable_effect_needs_a_look_up() -> None:
    task = Agent("a").task(effect="queryable")(fine)
    with pytest.raises(DefinitionError, match="Expected a look-up"):
        task.manifest()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("2h", 7200.0), ("1d", 86400.0), ("1.5 s", 1.5), (7, 7.0)],
)
def test_times_are_said_as_people_say_them(given: float | str, seconds: float) -> None:
    task = Agent("a").task(timeout=given, lease=0.2)(fine)
    assert task.manifest()["timeouts"]["start_to_close_s"] == seconds


def test_a_lease_that_nobody_set_follows_a_short_timeout() -> None:
    assert Agent("a").task(timeout="1s")(fine).manifest()["timeouts"] == {"start_to_close_s": 1.0, "lease_s": 1.0}


def test_only_what_was_set_is_in_the_manifest() -> None:
    bare = Agent("a").task()(fine).manifest()
    assert (bare["retry"], bare["timeouts"], bare["resolutions"], bare["context"]) == ({}, {}, [], {})
    full = Agent("a").task(
        retries=5,
        backoff="linear",
        delay="1s",
        max_delay="1m",
        jitter=False,
        total_timeout="10m",
        non_retryable=["NO"],
        lease="2s",
        schedule_to_start="3s",
        max_in_flight=4,
        description="Adds.",
    )(fine)
    assert full.manifest()["retry"] == {
        "max_attempts": 5,
        "backoff": "linear",
        "initial_delay_s": 1.0,
        "max_delay_s": 60.0,
        "jitter": "none",
        "total_timeout_s": 600.0,
        "non_retryable_errors": ["NO"],
    }
    assert full.manifest()["timeouts"] == {"schedule_to_start_s": 3.0, "lease_s": 2.0}
    assert (full.manifest()["max_in_flight"], full.manifest()["description"]) == (4, "Adds.")


def test_the_limit_of_an_agent_is_the_limit_of_its_tasks() -> None:
    assert Agent("a", max_in_flight=2).task()(fine).max_in_flight == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Retry("RES_X", "x", sets="a"), "`sets` and `schema` together"),
        (lambda: Retry("RES_X", "x", schema="url"), "`sets` and `schema` together"),
        (lambda: Skip("skip", "x"), "such as RES_SKIP"),
        (lambda: Skip("RES_SKIP", ""), "such as RES_SKIP"),
        (lambda: Retry("RES_X", "x", sets="a", schema="uri"), "such as RES_SKIP"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_button_that_is_none_is_refused(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_buttons_know_what_they_ask_for() -> None:
    assert Skip("RES_S", "s") == Resolution(action_id="RES_S", display_text="s", kind="skip")  # pyright: ignore
    substitute = Skip("RES_S", "s", schema={"type": "object"})
    assert (substitute.requires_input, substitute.input_schema) == (True, {"type": "object"})
    assert Abort("RES_A", "a").style == "danger"
    assert Retry("RES_R", "r").requires_input is False
