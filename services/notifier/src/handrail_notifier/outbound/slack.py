"""Messages in Slack: posted when a pause opens, updated when it is over, answered in the thread at the end."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from handrail_notifier.outbound import card
from handrail_notifier.outbound.notices import GiveUp, Kind, Notice, TryLater, console_link
from handrail_notifier.outbound.settings import ChannelSettings

_OURS_TO_MEND = frozenset(
    {"invalid_blocks", "msg_too_long", "invalid_arguments", "message_not_found", "cant_update_message"}
)
"""Trying again will not help: this notice, not the channel, is at fault."""


class Slack:
    """The Web API for one channel."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        token = settings.slack_bot_token.get_secret_value()
        self._web = AsyncWebClient(token, base_url=settings.slack_api_url, timeout=10, trust_env_in_session=False)
        secret = (
            settings.slack_signing_secret.get_secret_value() or settings.slack_app_token.get_secret_value() or token
        )
        self.key = hashlib.sha256(b"handrail slack buttons " + secret.encode()).digest()

    async def deliver(self, notice: Notice) -> dict[str, Any] | None:
        """One try; answers where a new message stands. Raises TryLater, GiveUp."""
        link = console_link(self._settings.public_url, notice.trace_id)
        event = notice.body["event"]
        if notice.kind is Kind.OPENED:
            if notice.closed is not None:
                return await self.post(card.closed(event, notice.closed["event"], link))
            return await self.post(card.opened(event, self.key, link))
        if notice.answer is None:
            if notice.attempts < 4:
                raise TryLater("the message that it follows has not been posted yet")
            return await self.post(
                card.closed(notice.body["pause"], event, link)
                if notice.kind is Kind.RESOLVED
                else card.ended(event, link)
            )
        if notice.kind is Kind.RESOLVED:
            await self.update(notice.answer, card.closed(notice.body["pause"], event, link))
            return None
        return await self.post(card.ended(event, link), thread_ts=notice.answer["ts"])

    async def post(self, message: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A new message; answers its channel and ts."""
        said = await self._call(
            "chat.postMessage", channel=self._settings.slack_channel, unfurl_links=False, unfurl_media=False,
            parse="none", link_names=False, **message, **more,
        )  # fmt: skip
        return {"channel": said["channel"], "ts": said["ts"]}

    async def update(self, where: Any, message: dict[str, Any]) -> None:
        """The message at `{channel, ts}` says this from now on."""
        await self._call(
            "chat.update", channel=where["channel"], ts=where["ts"], parse="none", link_names=False, **message
        )

    async def whisper(self, channel: str, user: str, text: str) -> None:
        """Only this person sees it."""
        await self._call("chat.postEphemeral", channel=channel, user=user, text=card.escaped(text))

    async def member(self, user: str) -> dict[str, Any]:
        """A person of the workspace, as Slack knows them now."""
        return (await self._call("users.info", user=user))["user"]

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = (
                await self._web.api_call(method, json=arguments)
                if method != "users.info"
                else await self._web.api_call(method, params=arguments)
            )
        except SlackApiError as e:
            code = str(e.response.get("error", "unknown"))
            if code in _OURS_TO_MEND:
                raise GiveUp(f"Slack refused {method}: {code}") from e
            wait = e.response.headers.get("Retry-After") if e.response.status_code == 429 else None
            raise TryLater(f"Slack refused {method}: {code}", float(wait) if wait else None) from e
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
            raise TryLater(f"Slack did not answer {method}: {type(e).__name__}") from e
        return dict(answer.data) if isinstance(answer.data, dict) else {}
