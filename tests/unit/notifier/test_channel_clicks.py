"""What a person who pressed a button in Slack is told when Handrail itself does not answer."""

from __future__ import annotations

from typing import Any, cast

from handrail_notifier.application.ports import Unavailable
from handrail_notifier.outbound import card
from handrail_notifier.outbound.clicks import Clicks
from handrail_notifier.outbound.settings import ChannelSettings

KEY = b"k" * 32


class PlayedSlack:
    """Slack, as far as a click needs it."""

    key = KEY

    def __init__(self) -> None:
        self.whispers: list[str] = []

    async def member(self, user: str) -> dict[str, Any]:
        return {}

    async def whisper(self, channel: str, user: str, text: str) -> None:
        self.whispers.append(text)


class SilentDesk:
    """Stores the decision, and its answer is lost."""

    async def decide(self, trace_id: str, decision: Any, *, key: str, actor: str) -> None:
        raise Unavailable("Expected the gateway to answer, but: ReadTimeout.")


async def test_nobody_is_told_that_nothing_was_decided_when_only_the_answer_is_missing() -> None:
    slack = PlayedSlack()
    settings = ChannelSettings(slack_users='{"U1": "ada"}')
    clicks = Clicks(settings, cast(Any, slack), cast(Any, None), cast(Any, SilentDesk()))
    value = card.signed(KEY, "t", "p1", None)
    action = {"action_id": "RES_SKIP", "value": value, "action_ts": "1"}
    where = {"channel_id": "C1", "message_ts": "1"}
    await clicks.handle({"type": "block_actions", "actions": [action], "user": {"id": "U1"}, "container": where})
    [told] = slack.whispers
    assert "not known whether that was decided" in told and "Press again" in told
