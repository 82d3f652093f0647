"""Which blueprint an intent means: words against words, no model, the same answer every time.

An intent and a phrase of a blueprint (an example, a keyword) are split into words: lower case, accents dropped, stop
words dropped, ends cut ("onboarding", "onboard" and "onboarded" are one word). Words that few blueprints use say more
than words that all use: a word weighs 1 / (number of blueprints that use it).

    score = 0.6 * best example + 0.4 * keywords

where an example scores the weight of the words that it shares with the intent, as a share of the example's weight
(all of it: 1.0), and keywords score 1.0 as soon as one of them stands in the intent with all of its words, 1.3 with two,
at most 1.6. The highest score wins if it reaches THRESHOLD (0.35) and is above the next one by MARGIN (0.1); a closer
race is no match, because guessing would start the wrong workflow. So a keyword is enough, and without one more than half
of an example.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

THRESHOLD = 0.35
MARGIN = 0.1
_EXAMPLE_SHARE, _KEYWORD_SHARE = 0.6, 0.4
_WORD = re.compile(r"[a-z0-9]+")
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "get",
        "gets",
        "give",
        "had",
        "has",
        "have",
        "he",
        "her",
        "hers",
        "him",
        "his",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "kindly",
        "let",
        "like",
        "make",
        "me",
        "my",
        "need",
        "needs",
        "of",
        "on",
        "or",
        "our",
        "out",
        "please",
        "s",
        "set",
        "she",
        "should",
        "so",
        "some",
        "t",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "too",
        "up",
        "us",
        "want",
        "wants",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
_ENDS = (
    ("ization", "ize"),
    ("isation", "ize"),
    ("ations", ""),
    ("ation", ""),
    ("ments", ""),
    ("ment", ""),
    ("ings", ""),
    ("ing", ""),
    ("ers", ""),
    ("er", ""),
    ("ees", ""),
    ("ee", ""),
    ("ies", "y"),
    ("ied", "y"),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
    ("e", ""),
)
_SHORTEST_STEM = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A blueprint by what people say to mean it."""

    name: str
    examples: Sequence[str]
    keywords: Sequence[str]


def words(text: str) -> list[str]:
    """The stemmed words of a text, stop words left out, in order."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return [stem(w) for w in _WORD.findall(plain) if w not in _STOP]


def stem(word: str) -> str:
    """The word without its English endings; at least three letters stay. Doubled letters at the end become one."""
    while True:
        for end, instead in _ENDS:
            if word.endswith(end) and len(word) - len(end) >= _SHORTEST_STEM:
                shorter = word[: len(word) - len(end)] + instead
                break
        else:
            shorter = word
        if len(shorter) > _SHORTEST_STEM and shorter[-1] == shorter[-2]:
            shorter = shorter[:-1]
        if len(shorter) >= len(word):
            return shorter
        word = shorter


def scores(intent: str, candidates: Iterable[Candidate]) -> list[tuple[float, str]]:
    """(score, name), the highest first; equal scores by name."""
    prepared = [(c.name, [set(words(e)) for e in c.examples], [set(words(k)) for k in c.keywords]) for c in candidates]
    used_by = Counter(w for _, examples, keywords in prepared for w in set().union(*examples, *keywords))
    said = set(words(intent))
    found: list[tuple[float, str]] = []
    for name, examples, keywords in prepared:
        best = max((_share(example, said, used_by) for example in examples), default=0.0)
        hits = sum(1 for keyword in keywords if keyword and keyword <= said)
        keyed = min(1.0 + 0.3 * (hits - 1), 1.6) if hits else 0.0
        found.append((round(_EXAMPLE_SHARE * best + _KEYWORD_SHARE * keyed, 6), name))
    return sorted(found, key=lambda f: (-f[0], f[1]))


def best(intent: str, candidates: Iterable[Candidate]) -> str | None:
    """The name of the blueprint that the intent means, or None."""
    ranked = scores(intent, candidates)
    if not ranked or ranked[0][0] < THRESHOLD:
        return None
    if len(ranked) > 1 and ranked[0][0] - ranked[1][0] < MARGIN:
        return None
    return ranked[0][1]


def _share(example: set[str], said: set[str], used_by: Counter[str]) -> float:
    total = sum(1 / used_by[w] for w in example)
    return sum(1 / used_by[w] for w in example & said) / total if total else 0.0
