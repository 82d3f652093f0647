"""What the played channels remember, and how a click is made: signed as Slack signs."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

CHANNEL = "C0HANDRAIL"
TEAM, APP = "T0HANDRAIL", "A0HANDRAIL"
BOT_TOKEN, APP_TOKEN, SIGNING_SECRET = "xoxb-simulated", "xapp-simulated", "simulated-signing-secret"
WEBHOOK_SECRET = "whsec_c2ltdWxhdGVkLXdlYmhvb2stc2VjcmV0LTEyMzQ1Njc4"
USERS: dict[str, dict[str, Any]] = {
    "U0ADA": {"id": "U0ADA", "name": "ada"},
    "U0GRACE": {"id": "U0GRACE", "name": "grace"},
    "U0GUEST": {"id": "U0GUEST", "name": "guest", "is_restricted": True},
    "U0GONE": {"id": "U0GONE", "name": "gone", "deleted": True},
}


@dataclass(slots=True)
class Office:
    """The state. `failing` maps `slack`, `webhook`, `smtp` to how they fail just now: a status, or 0 for a broken connection."""

    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    whispers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    hooks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    mails: list[str] = field(default_factory=list[str])
    failing: dict[str, int] = field(default_factory=dict[str, int])
    tries: dict[str, int] = field(default_factory=dict[str, int])
    _n: int = 0

    def failure(self, what: str) -> int | None:
        """How this try fails, if it does; every try is counted."""
        self.tries[what] = self.tries.get(what, 0) + 1
        return self.failing.get(what)

    def post(self, said: dict[str, Any]) -> dict[str, Any]:
        """chat.postMessage."""
        self._n += 1
        message = {**said, "ts": f"{int(time.time())}.{self._n:06d}"}
        self.messages.append(message)
        return {"ok": True, "channel": said["channel"], "ts": message["ts"], "message": message}

    def update(self, said: dict[str, Any]) -> dict[str, Any]:
        """chat.update."""
        for message in self.messages:
            if message["ts"] == said["ts"]:
                message.update(said, edited=True)
                return {"ok": True, "channel": said["channel"], "ts": said["ts"]}
        return {"ok": False, "error": "message_not_found"}

    def whisper(self, said: dict[str, Any]) -> dict[str, Any]:
        """chat.postEphemeral."""
        self.whispers.append(said)
        return {"ok": True, "message_ts": "0"}

    def person(self, said: dict[str, Any]) -> dict[str, Any]:
        """users.info."""
        user = USERS.get(str(said.get("user")))
        return {"ok": True, "user": user} if user else {"ok": False, "error": "user_not_found"}

    def buttons(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """What can be pressed in a message."""
        return [e for b in message.get("blocks", []) if b["type"] == "actions" for e in b["elements"]]

    def click(self, ts: str, action_id: str, user: str = "U0ADA") -> dict[str, Any]:
        """The interaction payload of pressing a button. Raises StopIteration when there is none."""
        message = next(m for m in self.messages if m["ts"] == ts)
        button = next(b for b in self.buttons(message) if b["action_id"] == action_id)
        return payload(message, button, user)


def payload(message: dict[str, Any], button: dict[str, Any], user: str) -> dict[str, Any]:
    """`block_actions`, as Slack sends it."""
    return {
        "type": "block_actions",
        "team": {"id": TEAM, "domain": "handrail"},
        "api_app_id": APP,
        "user": {"id": user, "username": USERS.get(user, {}).get("name", user), "team_id": TEAM},
        "container": {"type": "message", "message_ts": message["ts"], "channel_id": message["channel"]},
        "channel": {"id": message["channel"]},
        "trigger_id": "0.0",
        "response_url": "https://hooks.slack.com/actions/simulated",
        "actions": [{**button, "block_id": "resolutions", "action_ts": f"{time.time():.6f}"}],
    }


def form(said: dict[str, Any], secret: str = SIGNING_SECRET, at: int | None = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the POST with which Slack delivers an interaction."""
    body = urlencode({"payload": json.dumps(said)}).encode()
    stamp = str(at if at is not None else int(time.time()))
    mac = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return body, {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={mac}",
    }
