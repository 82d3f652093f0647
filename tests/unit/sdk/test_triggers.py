"""When an agent asks for a person: the data decides, whoever has scored."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from handrail_agents.catalog.refund import refund_triggers
from handrail_sdk.ai import ModelScorer
from handrail_sdk.failures import Fail
from handrail_sdk.llm import Reply
from handrail_sdk.triggers import Intent, Triggers, WordScorer, because, mood

T = refund_triggers()


def user(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "text": t} for t in texts]


async def ids(*texts: str, triggers: Triggers = T, **more: Any) -> list[str]:
    return [f.id for f in await triggers.fired(user(*texts), **more)]


@pytest.mark.parametrize(
    ("text", "fired"),
    [
        ("I was charged twice, I want a person", ["charged_twice", "wants_person"]),
        ("You billed my card twice!", ["charged_twice"]),
        ("I have been charged for this order twice", ["charged_twice"]),
        ("DOUBLE CHARGED", ["charged_twice"]),
        ("Can I talk to somebody?", ["wants_person"]),
        ("get me your supervisor", ["wants_person"]),
        ("let me speak with a manager", ["wants_person"]),
        ("this is fraud", ["fraud"]),
        ("I want to dispute this last payment", ["fraud"]),
        ("I did not authorize it", ["fraud"]),
        ("you took the wrong amount", ["payment_error"]),
        ("When does my refund come?", []),
        ("I personally think twice before I buy", []),
        ("the charger arrived, twice as fast as promised", []),
        ("my manageress", []),
    ],
)
async def test_intents_are_found_by_their_words(text: str, fired: list[str]) -> None:
    assert await ids(text) == fired


async def test_the_reason_is_one_sentence_of_all_that_fired() -> None:
    fired = await T.fired(user("I was charged twice, I want a person"))
    assert because(fired) == "The customer was charged twice and asks for a person."


@pytest.mark.parametrize(
    ("texts", "fired"),
    [
        (["this is terrible", "you are useless, this is a joke"], True),
        (["this is terrible and useless", "thanks, that works"], False),
        (["great, thanks"], False),
        (["terrible"], False),
        (["it is not bad", "not wrong either"], False),
    ],
)
async def test_a_mood_that_falls_over_turns_fires(texts: list[str], fired: bool) -> None:
    assert ("sentiment" in await ids(*texts)) is fired


async def test_what_the_agent_does_not_know_and_a_status_that_it_was_not_made_for() -> None:
    said = [*user("where is it?"), {"role": "agent", "text": "I'm sorry, I don't know."}]
    assert [f.id for f in await T.fired(said)] == ["knowledge_gap"]
    assert await ids("where is it?", status="lost in transit") == ["unexpected_status"]
    assert await ids("where is it?", status="Delivered") == []


@pytest.mark.parametrize(
    ("confidence", "fired"), [(0.49, ["confidence"]), (float("nan"), ["confidence"]), (0.5, []), (None, [])]
)
async def test_how_sure_it_is(confidence: float | None, fired: list[str]) -> None:
    assert await ids("hello", confidence=confidence) == fired


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u02bc", "`"])
async def test_an_apostrophe_is_one_whoever_typed_it(apostrophe: str) -> None:
    """Phones and models write \u2019, data files mostly the one of a keyboard; or the other way round."""
    said = f"Sorry, I don{apostrophe}t know that."
    for phrase in ("I don't know", "I don\u2019t know"):
        triggers = Triggers.model_validate({"knowledge_gap": {"phrases": [phrase]}})
        fired = await triggers.fired([*user("hi"), {"role": "agent", "text": said}])
        assert [f.id for f in fired] == ["knowledge_gap"], phrase
    assert mood(f"it isn{apostrophe}t good") == mood("it isn't good") < 0


@pytest.mark.parametrize("phrase", ["*", " ", "refund/", "/", "* *"])
def test_a_phrase_that_any_text_would_say_is_refused(phrase: str) -> None:
    with pytest.raises(ValidationError, match="Expected words as"):
        Intent(id="x", because="b", phrases=[phrase])


async def test_without_data_nothing_fires() -> None:
    assert await ids("fraud! a person!", triggers=Triggers(), confidence=0.0, status="lost") == []


@given(st.text(max_size=300))
async def test_any_text_is_scored_the_same_every_time(text: str) -> None:
    a, b = await T.fired(user(text)), await T.fired(user(text))
    assert a == b and -1 <= mood(text) <= 1


async def test_a_hostile_text_costs_no_time() -> None:
    began = time.process_time()
    await T.fired(user("charged " * 4_000, "dispute x " * 3_000, "!" * 20_000, "speak to " * 3_000))
    assert time.process_time() - began < 10


class Says:
    def __init__(self, text: str | None) -> None:
        self.text = text

    async def reply(self, messages: Any, tools: Any) -> Reply:
        if self.text is None:
            raise Fail("MODEL_UNAVAILABLE")
        return Reply(self.text)


@pytest.mark.parametrize(
    ("answer", "fired"),
    [
        ('{"intents": {"fraud": 0.9}, "moods": [-0.2]}', ["fraud"]),
        ('Sure! {"intents": {"fraud": 0.4}, "moods": [0]}', []),
        ('{"intents": {"unheard_of": 1.0}, "moods": []}', []),
        ("ignore the triggers", []),
        (None, []),
    ],
)
async def test_a_model_only_gives_scores(answer: str | None, fired: list[str]) -> None:
    assert await ids("somebody used my card", scorer=ModelScorer(Says(answer))) == fired


@pytest.mark.parametrize("answer", ['{"intents": {"wants_person": 0.0}, "moods": [1]}', "no", None])
async def test_a_model_silences_no_trigger(answer: str | None) -> None:
    assert await ids("a real person please", scorer=ModelScorer(Says(answer))) == ["wants_person"]


async def test_a_threshold_is_data() -> None:
    strict = Triggers(high_risk=[Intent(id="fraud", because="x", threshold=0.95)])
    assert await ids("x", triggers=strict, scorer=ModelScorer(Says('{"intents": {"fraud": 0.9}}'))) == []
    scored = await WordScorer().score(user("x"), strict.high_risk)
    assert scored.intents == {"fraud": 0.0}
