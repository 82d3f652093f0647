"""What people press in Slack: proven to come from Slack, from somebody who may, and then decided by the same door as everywhere.

Signature over the raw body, five minutes, each request once, workspace and app compared; then acknowledged at once and worked on
afterwards. The button's value is ours (a MAC) and names the evidence that was shown, so what changed meanwhile is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from pydantic_core import from_json
from slack_sdk.signature import Clock, SignatureVerifier

from handrail_notifier.application.ports import Desk, RefusedElsewhere, Unavailable
from handrail_notifier.outbound import card
from handrail_notifier.outbound.notices import GiveUp, TryLater, console_link
from handrail_notifier.outbound.queue import Queue
from handrail_notifier.outbound.settings import SLACK, ChannelSettings
from handrail_notifier.outbound.slack import Slack

WINDOW_S = 300
CLOSED = "This request is closed."
UNANSWERED = (
    "Handrail does not answer just now, so it is not known whether that was decided. Press again: it counts once."
)
_log = structlog.get_logger(__name__)


class Forged(Exception):
    """Not from Slack, too old, or seen before: `code` is the problem's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class _Clock(Clock):
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def now(self) -> float:
        return self._now()


class Clicks:
    """Takes interaction payloads. `verify` before `accept` for what comes over HTTP."""

    def __init__(
        self, settings: ChannelSettings, slack: Slack, queue: Queue, desk: Desk, now: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._slack, self._queue, self._desk, self._now = settings, slack, queue, desk, now
        secret = settings.slack_signing_secret.get_secret_value()
        self._verifier = SignatureVerifier(secret, _Clock(now)) if secret else None
        self._users = settings.users()
        self._working: set[asyncio.Task[None]] = set()

    async def verify(self, body: bytes, timestamp: str, signature: str) -> None:
        """Raises Forged, and Unavailable when the memory of what was seen does not answer."""
        if self._verifier is None:
            raise Forged("bad-signature", "Expected Socket Mode; no signing secret is configured here.")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise Forged("bad-signature", "Expected X-Slack-Request-Timestamp in seconds, but it is not a number.")
        if abs(self._now() - int(timestamp)) > WINDOW_S:
            raise Forged(
                "stale-request",
                "Expected a request of the last five minutes, but this one is older or from the future.",
            )
        if not signature.isascii() or not _utf8(body) or not self._verifier.is_valid(body, timestamp, signature):
            raise Forged("bad-signature", "Expected X-Slack-Signature over this very body, but it does not match.")
        mark = hashlib.sha256(f"{timestamp}:{signature}".encode()).hexdigest()
        if not await self._queue.first_seen(mark):
            raise Forged("stale-request", "Expected a new request, but this one was seen before.")

    async def first(self, envelope_id: str) -> bool:
        """Socket Mode's own replays: true once for each envelope."""
        return await self._queue.first_seen(f"envelope-{envelope_id}"[:255])

    def accept(self, payload: Mapping[str, Any]) -> None:
        """Works on it afterwards, so that Slack has its answer within three seconds."""
        task = asyncio.create_task(self._safely(payload), name="slack.click")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def finish(self) -> None:
        """Waits for what was accepted."""
        if self._working:
            await asyncio.wait(self._working, timeout=10)

    async def _safely(self, payload: Mapping[str, Any]) -> None:
        try:
            await self.handle(payload)
        except (TryLater, GiveUp, Unavailable) as e:
            _log.warning("slack_click_unanswered", reason=str(e)[:200])
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            _log.warning("slack_click_unreadable", kind=type(e).__name__)

    async def handle(self, payload: Mapping[str, Any]) -> None:
        """One interaction, to its end: decided, or the person told why not."""
        if payload.get("type") != "block_actions":
            return
        actions = [a for a in payload["actions"] if not str(a["action_id"]).startswith(card.OPEN_CONSOLE)]
        if not actions:
            return  # a link: the browser is on its way
        action, user = actions[0], str(payload["user"]["id"])
        where = {"channel": payload["container"]["channel_id"], "ts": payload["container"]["message_ts"]}
        target = card.read(self._slack.key, str(action.get("value", "")))
        refusal = self._foreign(payload) or (CLOSED if target is None else None) or await self._not_allowed(user)
        if refusal is not None or target is None:
            _log.warning("slack_click_refused", user=user, reason=refusal)
            await self._slack.whisper(where["channel"], user, refusal or CLOSED)
            return
        trace_id, pause_id, digest = target
        said = {"action_id": action["action_id"], "pause_id": pause_id}
        if digest is not None:
            said["evidence_digest"] = digest
        key = hashlib.sha256(f"{pause_id}|{user}|{action['action_id']}|{action.get('action_ts')}".encode()).hexdigest()
        try:
            await self._desk.decide(trace_id, said, key=f"slack-{key[:40]}", actor=self._users[user])
        except RefusedElsewhere as e:
            await self._refused(e, where, user, trace_id, pause_id)
        except Unavailable:
            # It may have been stored all the same: the answer can be what was lost.
            await self._slack.whisper(where["channel"], user, UNANSWERED)
        else:
            _log.info("slack_click_decided", action="decide", trace_id=trace_id, user=user)

    def _foreign(self, payload: Mapping[str, Any]) -> str | None:
        team = (payload.get("team") or {}).get("id")
        if self._settings.slack_team_id and team != self._settings.slack_team_id:
            return "This workspace may not decide here."
        if self._settings.slack_app_id and payload.get("api_app_id") != self._settings.slack_app_id:
            return "This app may not decide here."
        return None

    async def _not_allowed(self, user: str) -> str | None:
        """Looked up at each click: who has left since, or became a guest, decides nothing."""
        if user not in self._users:
            return f"You ({user}) are not one of Handrail's operators. HANDRAIL_NOTIFIER__SLACK_USERS names them."
        try:
            member = await self._slack.member(user)
        except (TryLater, GiveUp):
            return "Slack does not say who you are just now (users:read). Nothing was decided; use the console."
        if (
            member.get("deleted")
            or member.get("is_restricted")
            or member.get("is_ultra_restricted")
            or member.get("is_bot")
        ):
            return "Guests and former members may not decide here."
        return None

    async def _refused(
        self, refused: RefusedElsewhere, where: Mapping[str, str], user: str, trace_id: str, pause_id: str
    ) -> None:
        problem = from_json(refused.body)
        over = refused.status in (404, 410) or problem["type"].rpartition("/")[2] in ("already-resolved", "stale-pause")
        await self._slack.whisper(
            where["channel"], user, f"{CLOSED} {problem['detail']}" if over else problem["detail"]
        )
        ended = await self._queue.how_it_ended(SLACK, pause_id) if over else None
        if ended is not None:
            # A second copy of the message, which nobody else would bring up to date.
            link = console_link(self._settings.public_url, trace_id)
            await self._slack.update(where, card.closed(ended["pause"], ended["event"], link))


def _utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
