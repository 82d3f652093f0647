"""Which channels are open. Nothing leaves the machine unless it is named here."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from handrail_runtime.settings import Settings, service_config

SLACK = "slack"
EMAIL = "email"
TEXT = "text"
CALLBACK = "callback"
WEBHOOK = "webhook"
_NONE = SecretStr("")


class ChannelSettings(Settings):
    """`HANDRAIL_NOTIFIER__<FIELD>`; every secret may be given as `<NAME>_FILE`. Several values are separated by commas."""

    model_config = service_config("notifier")

    public_url: str = Field(default="http://127.0.0.1:8080", description="where people reach Handrail: links lead here")

    webhook_urls: SecretStr = Field(default=_NONE, description="https addresses that hear of every pause and its end")
    webhook_secrets: SecretStr = Field(
        default=_NONE, description="whsec_… keys that sign, newest first; two while they are rotated. Without one no webhook and no callback is sent"
    )  # fmt: skip
    webhook_inner_hosts: str = Field(
        default="", description="host:port of inner receivers that may be called although they are not public; http is allowed there"
    )  # fmt: skip

    webhook_ca_file: str = Field(
        default="", description="PEM of a CA to trust besides the public ones, for inner receivers"
    )
    webhook_proxy: SecretStr = Field(default=_NONE, description="http://host:port through which webhooks leave")

    slack_bot_token: SecretStr = Field(default=_NONE, description="xoxb-… with chat:write and users:read")
    slack_channel: str = Field(default="", description="id of the channel that messages go to")
    slack_signing_secret: SecretStr = Field(default=_NONE, description="verifies clicks that come over HTTP")
    slack_app_token: SecretStr = Field(default=_NONE, description="xapp-… opens Socket Mode: no public address needed")
    slack_users: str = Field(default="{}", description='who may press: {"U024BE7LH": "ada"}')
    slack_team_id: str = Field(default="", description="only clicks of this workspace count")
    slack_app_id: str = Field(default="", description="only clicks of this app count")
    slack_api_url: str = Field(
        default="https://slack.com/api/", description="another one for `handrail channels simulate`"
    )

    smtp_url: SecretStr = Field(
        default=_NONE, description="smtp://user:password@host:587 (STARTTLS) or smtps://host:465"
    )
    mail_from: str = Field(default="", description="sender of the mails")
    mail_to: str = Field(default="", description="receivers, separated by commas")
    text_urls: SecretStr = Field(
        default=_NONE, description="Apprise addresses of other text channels (ntfy, Teams, Telegram …)"
    )

    @field_validator("public_url", "slack_api_url")
    @classmethod
    def _http(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise ValueError(f"Expected a URL as https://handrail.example, but found {value[:80]!r}.")
        return value

    @field_validator("webhook_secrets")
    @classmethod
    def _keys(cls, value: SecretStr) -> SecretStr:
        for key in _split(value):
            try:
                size = len(base64.b64decode(key.removeprefix("whsec_") + "=="))
            except ValueError as e:
                raise ValueError("Expected whsec_ and base64, but a key is not that.") from e
            if not key.startswith("whsec_") or not 24 <= size <= 64:
                raise ValueError("Expected whsec_ and base64 of 24 to 64 bytes, but a key is not that.")
        return value

    @field_validator("slack_users")
    @classmethod
    def _people(cls, value: str) -> str:
        try:
            people = json.loads(value or "{}")
        except ValueError as e:
            raise ValueError('Expected JSON as {"U024BE7LH": "ada"}, but it is not JSON.') from e
        if not isinstance(people, dict) or not all(isinstance(name, str) and name for name in people.values()):
            raise ValueError('Expected JSON as {"U024BE7LH": "ada"}, but it is something else.')
        return value or "{}"

    def users(self) -> dict[str, str]:
        """Slack user id -> operator."""
        return json.loads(self.slack_users)

    def secrets(self) -> list[str]:
        """The signing keys of webhooks."""
        return _split(self.webhook_secrets)

    def webhooks(self) -> dict[str, str]:
        """Channel name -> address. The name is made of the address, so that it outlives a new order of the list."""
        if not self.secrets():
            return {}
        return {f"{WEBHOOK}-{hashlib.sha256(u.encode()).hexdigest()[:10]}": u for u in _split(self.webhook_urls)}

    def inner_hosts(self) -> frozenset[str]:
        """Authorities that need not be public."""
        return frozenset(h.strip().lower() for h in self.webhook_inner_hosts.split(",") if h.strip())

    def texts(self) -> list[str]:
        """Apprise addresses."""
        return _split(self.text_urls)

    def receivers(self) -> list[str]:
        """Who gets mail."""
        return [m.strip() for m in self.mail_to.split(",") if m.strip()]

    def slack_open(self) -> bool:
        """Whether Slack is told."""
        return bool(self.slack_bot_token.get_secret_value() and self.slack_channel)

    def fed(self) -> list[str]:
        """The channels that hear of pauses."""
        mail = bool(self.smtp_url.get_secret_value() and self.mail_from and self.receivers())
        text = bool(self.texts())
        return [
            *self.webhooks(),
            *([SLACK] if self.slack_open() else []),
            *([EMAIL] if mail else []),
            *([TEXT] if text else []),
        ]

    def served(self) -> list[str]:
        """The channels that are delivered: those, and callbacks where they can be signed."""
        return [*self.fed(), *([CALLBACK] if self.secrets() else [])]


def _split(value: SecretStr) -> list[str]:
    return [part.strip() for part in value.get_secret_value().split(",") if part.strip()]
