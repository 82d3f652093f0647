"""Times as CONTRACT writes them."""

from __future__ import annotations

from datetime import datetime

from handrail_contracts.model import iso


def rfc3339(at: datetime) -> str:
    """A database time as CONTRACT writes times: UTC, milliseconds."""
    return iso(round(at.timestamp() * 1000))
