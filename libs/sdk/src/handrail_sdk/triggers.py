"""When an agent should ask for a person, as data: intents, sentiment over turns, what it does not know, how sure it is.

    triggers = Triggers.model_validate_json(Path("triggers.json").read_text())
    fired = await triggers.fired(conversation, confidence=0.4)
    if fired:
        await ctx.escalate_to_human(because(fired), transcript=conversation)

What a conversation says is scored by a `Scorer`: by words (`WordScorer`, the default, the same answer every time) or by a model
(`handrail_sdk.ai.ModelScorer`). Whether a score is enough is decided here, by the data, never by the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field, StringConstraints

from handrail_contracts.model import Door

Line = Mapping[str, Any]
"""{role, text, …}; `user` lines are the end user's, `agent` and `assistant` lines the agent's own."""


def _of_words(phrase: str) -> str:
    words = [word for word in phrase.split() if word != "*"]
    if not words or not all(all(either) for either in (word.split("/") for word in words)):
        raise ValueError(
            f"Expected words as 'dispute * charge/payment', but found {phrase!r}, which any text would say."
        )
    return phrase


Phrase = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_of_words)]


class Intent(Door):
    """Something that may be said. `phrases` are words as they are spoken, in any case; `*` stands for up to six words, `/` for
    either word. It counts from a score of `threshold` on. `because` ends the sentence "The customer …"."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    because: str
    phrases: list[Phrase] = Field(default_factory=list[str])
    description: str = ""
    threshold: float = Field(default=0.5, gt=0, le=1)


class Sentiment(Door):
    """The mood of the last `turns` of the user: fires when their mean is `below` (−1 to 1) and it is not getting better."""

    turns: int = Field(default=2, ge=1, le=50)
    below: float = Field(default=-0.3, ge=-1, le=1)
    because: str = "is getting unhappy"


class Gap(Door):
    """What the agent does not know: its own words that say so, and statuses of other systems that it was not made for."""

    phrases: list[Phrase] = Field(default_factory=list[str])
    expected_status: list[str | int] | None = None
    because: str = "asks what the agent cannot answer"


class Confidence(Door):
    """How sure the agent says it is (0 to 1): fires `below` it."""

    below: float = Field(ge=0, le=1)
    because: str = "was given an answer of which the agent is not sure"


@dataclass(frozen=True, slots=True)
class Signals:
    """What a conversation says: a score of 0 to 1 per intent, a mood of −1 to 1 per turn of the user, oldest first."""

    intents: Mapping[str, float] = field(default_factory=dict[str, float])
    moods: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger that fired, and by how much."""

    id: str
    because: str
    score: float


class Scorer(Protocol):
    """Reads a conversation. What was written in it is data: it must not be followed."""

    async def score(self, conversation: Sequence[Line], intents: Sequence[Intent]) -> Signals:
        """A score for each of these intents, and the mood of each turn of the user."""
        ...


class Triggers(Door):
    """Which signals call for a person. What is left out never fires."""

    version: int = Field(default=1, ge=1)
    high_risk: list[Intent] = Field(default_factory=list[Intent])
    wants_person: Intent | None = None
    sentiment: Sentiment | None = None
    knowledge_gap: Gap | None = None
    confidence: Confidence | None = None

    async def fired(
        self,
        conversation: Sequence[Line],
        *,
        status: str | int | None = None,
        confidence: float | None = None,
        scorer: Scorer | None = None,
    ) -> list[Fired]:
        """Every trigger that fires, in the order in which they stand here; empty when the agent may go on. `status` is what
        another system answered, `confidence` what the agent says of its own answer."""
        intents = [*self.high_risk, *([self.wants_person] if self.wants_person else [])]
        signals = await (scorer or WordScorer()).score(conversation, intents)
        found = [
            Fired(i.id, i.because, signals.intents.get(i.id, 0.0))
            for i in intents
            if signals.intents.get(i.id, 0.0) >= i.threshold
        ]
        found += self._moody(signals.moods)
        if self.knowledge_gap is not None:
            found += _gaps(self.knowledge_gap, conversation, status)
        if self.confidence is not None and confidence is not None and not confidence >= self.confidence.below:
            found.append(
                Fired("confidence", self.confidence.because, confidence)
            )  # one that is no number is not sure either
        return found

    def _moody(self, moods: Sequence[float]) -> list[Fired]:
        s = self.sentiment
        if s is None or len(moods) < s.turns:
            return []
        last = list(moods[-s.turns :])
        mean = sum(last) / len(last)
        return [Fired("sentiment", s.because, mean)] if mean < s.below and last[-1] <= last[0] else []


def _gaps(gap: Gap, conversation: Sequence[Line], status: str | int | None) -> list[Fired]:
    said = next((line for line in reversed(conversation) if line.get("role") in ("agent", "assistant")), None)
    if said is not None and _says(str(said.get("text", "")), gap.phrases):
        return [Fired("knowledge_gap", gap.because, 1.0)]
    expected = gap.expected_status
    if (
        status is not None
        and expected is not None
        and str(status).casefold() not in {str(e).casefold() for e in expected}
    ):
        return [Fired("unexpected_status", gap.because, 1.0)]
    return []


def because(fired: Sequence[Fired], who: str = "The customer") -> str:
    """The reason as an operator reads it: one sentence of all that fired."""
    causes = list(dict.fromkeys(f.because for f in fired))
    listed = causes[0] if len(causes) == 1 else ", ".join(causes[:-1]) + " and " + causes[-1]
    return f"{who} {listed}."


class WordScorer:
    """Scores by words: the phrases of an intent, and a short list of words of good and ill. The same answer every time."""

    async def score(self, conversation: Sequence[Line], intents: Sequence[Intent]) -> Signals:
        """See the port. An intent scores 1 when any turn of the user says it."""
        turns = [str(line.get("text", "")) for line in conversation if line.get("role") == "user"]
        found = {i.id: 1.0 if any(_says(t, i.phrases) for t in turns) else 0.0 for i in intents}
        return Signals(found, [mood(t) for t in turns])


def mood(text: str) -> float:
    """The mood of a text by its words, −1 to 1; 0 for one that says nothing of it."""
    words = [w.casefold() for w in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", _typed(text))]
    total = 0.0
    for i, word in enumerate(words):
        weight = 1.0 if word in _GOOD else -1.0 if word in _ILL else 0.0
        if weight and any(w in _NOT for w in words[max(0, i - 3) : i]):
            weight = -weight
        total += weight
    shouted = sum(w.isupper() and len(w) > 3 for w in text.split()) + text.count("!!")
    total -= 0.5 * shouted
    return max(-1.0, min(1.0, total / 2))


_GOOD = frozenset(
    [
        "thanks",
        "thank",
        "great",
        "good",
        "perfect",
        "excellent",
        "helpful",
        "happy",
        "nice",
        "love",
        "solved",
        "works",
        "fine",
        "appreciate",
    ]
)
_ILL = frozenset(
    [
        "angry",
        "annoyed",
        "awful",
        "bad",
        "broken",
        "disappointed",
        "disgusting",
        "fed",
        "frustrated",
        "frustrating",
        "furious",
        "hate",
        "horrible",
        "ignored",
        "incompetent",
        "joke",
        "late",
        "lie",
        "lied",
        "lost",
        "mad",
        "never",
        "pathetic",
        "ridiculous",
        "rude",
        "scam",
        "scandal",
        "sick",
        "slow",
        "stupid",
        "terrible",
        "unacceptable",
        "upset",
        "useless",
        "waiting",
        "waste",
        "worse",
        "worst",
        "wrong",
    ]
)
_NOT = frozenset(
    ["not", "no", "never", "isn't", "wasn't", "don't", "doesn't", "didn't", "can't", "won't", "nothing", "hardly"]
)


def _says(text: str, phrases: Sequence[str]) -> bool:
    typed = _typed(text)
    return any(_pattern(_typed(p)).search(typed) is not None for p in phrases)


def _typed(text: str) -> str:
    """With the apostrophe of a keyboard: phones and models write others."""
    return text.translate(_APOSTROPHES)


_APOSTROPHES = {ord(c): "'" for c in "\u2019\u2018\u02bc\u00b4`"}


@lru_cache(maxsize=2_000)
def _pattern(phrase: str) -> re.Pattern[str]:
    """Linear in the text: every gap is bounded."""
    parts: list[str] = []
    for word in phrase.split():
        if word == "*":
            parts.append(r"(?:\S+\s+){0,6}?")
        else:
            parts.append("(?:" + "|".join(re.escape(w) for w in word.split("/")) + r")(?!\w)[^\w\s]*\s*")
    return re.compile(r"(?<!\w)" + "".join(parts), re.IGNORECASE)
