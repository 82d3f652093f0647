"""A model that plays back what was recorded: the same answer every time, without a key and without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from handrail_contracts.model import Door
from handrail_sdk.failures import Fail
from handrail_sdk.llm import Message, Reply, Tool, ToolCall

NOT_RECORDED = "NOT_RECORDED"


class RecordedCall(Door):
    """A call of a tool in a recording. `{name}` in a text argument stands for a group that the take has matched."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class Take(Door):
    """One recorded answer. It is played after a message of `after` (user, or tool:<name>) whose text `matches` (a regular
    expression, anywhere, in any case); the last user message gives groups too."""

    after: str = "user"
    matches: str = ""
    text: str = ""
    calls: list[RecordedCall] = Field(default_factory=list[RecordedCall])
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Recording(Door):
    """What a model answered once. The first take that fits is played."""

    model: str
    takes: list[Take]


class RecordedModel:
    """Plays a recording. Behind the port `ChatModel`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._patterns = [re.compile(take.matches, re.IGNORECASE | re.DOTALL) for take in recording.takes]

    async def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """See the port. Raises Fail NOT_RECORDED where nothing was recorded for it."""
        last = messages[-1]
        where = f"tool:{last.name}" if last.role == "tool" else last.role
        for take, pattern in zip(self._recording.takes, self._patterns, strict=True):
            found = pattern.search(last.text) if take.after == where else None
            if found is not None:
                return self._played(take, {k: v or "" for k, v in found.groupdict().items()})
        raise Fail(NOT_RECORDED, f"Nothing is recorded for what {where} said.", retryable=False)

    def _played(self, take: Take, groups: dict[str, str]) -> Reply:
        return Reply(
            _filled(take.text, groups),
            tuple(
                ToolCall(c.name, {k: _filled(v, groups) for k, v in c.arguments.items()}, f"recorded-{i}")
                for i, c in enumerate(take.calls)
            ),
            take.input_tokens,
            take.output_tokens,
            take.cost_usd,
            self._recording.model,
        )


def _filled(value: Any, groups: dict[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(\w+)\}", lambda m: groups.get(m[1], m[0]), value)
