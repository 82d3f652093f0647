"""Slack, a mail server and a webhook receiver, played on this machine: messages with buttons without any account."""

from __future__ import annotations

from handrail_simulators.channels.office import Office
from handrail_simulators.channels.serving import Serving

__all__ = ["Office", "Serving"]
