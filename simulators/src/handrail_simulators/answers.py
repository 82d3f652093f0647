"""What a simulated provider says: a status and a body, as one gets them over HTTP."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a provider. `status` is an HTTP status."""

    status: int
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    def json(self) -> dict[str, Any]:
        """The body."""
        return self.body


def number(prefix: str, key: str) -> str:
    """A document number such as PO-3F2A91C0: the same for the same key, so that a repeat shows the same document."""
    return f"{prefix}-{hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest().upper()}"
