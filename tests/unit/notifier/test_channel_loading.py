"""What a notifier loads at start: of channels only what is configured."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("aiohttp", "slack_sdk", "apprise", "standardwebhooks", "smtplib")
SLACK = "slack_bot_token='xoxb-1', slack_channel='C1'"
MAIL = "smtp_url='smtp://127.0.0.1', mail_from='a@b.c', mail_to='d@e.f'"
HOOK = "webhook_urls='https://h.example', webhook_secrets='whsec_' + 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'"


@pytest.mark.parametrize(
    ("configured", "loaded"),
    [
        ("", []),
        (MAIL, ["smtplib"]),
        (HOOK, ["standardwebhooks"]),
        (SLACK, ["aiohttp", "slack_sdk"]),
    ],
)
def test_a_channel_that_is_not_configured_costs_no_import(configured: str, loaded: list[str]) -> None:
    code = f"""
import sys
import handrail_notifier.bootstrap
from handrail_notifier.outbound.desk import open_channels
from handrail_notifier.outbound.settings import ChannelSettings
found = open_channels(ChannelSettings({configured}), None, "default", lambda: "http://127.0.0.1:1")
print(found is not None, [m for m in {HEAVY!r} if m in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"{bool(configured)} {loaded}"
