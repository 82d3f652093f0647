"""How a blueprint is written down: a named, versioned plan with an input schema, and the words by which an intent finds it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from handrail_contracts.model import Door
from handrail_contracts.plan import Budget, Node

_WORD = re.compile(r"[^\W_]+")


def spoken(intent: str) -> str:
    """The words of an intent, lower case, without punctuation: two that are spoken alike are the same."""
    return " ".join(_WORD.findall(intent.casefold()))


BlueprintName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Match(Door):
    """What a person might say to mean this blueprint. Matching is deterministic: words, no model."""

    examples: list[str] = Field(default_factory=list[str])
    keywords: list[str] = Field(default_factory=list[str])


class Blueprint(Door):
    """One version of a blueprint. `input_schema` is JSON Schema 2020-12; `output` maps names to references."""

    name: BlueprintName
    version: int = Field(default=1, ge=1)
    title: str = ""
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict[str, Any])
    defaults: dict[str, Any] = Field(default_factory=dict[str, Any])
    match: Match = Field(default_factory=Match)
    nodes: list[Node]
    output: dict[str, Any] | None = None
    budget: Budget | None = None
