"""`from handrail.testing import call, context, undo`: agents run in a test, without a broker. The SDK's own."""

from __future__ import annotations

from handrail_sdk.testing import call, context, look_up, undo

__all__ = ["call", "context", "look_up", "undo"]
