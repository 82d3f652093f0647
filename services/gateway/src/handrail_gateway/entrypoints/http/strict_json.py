"""JSON as every door of Handrail reads it (`handrail_runtime.strict_json`), refused as the gateway refuses."""

from __future__ import annotations

from typing import Any

from handrail_gateway.application.faults import Refusal
from handrail_runtime import strict_json


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises Refusal with the code of `BadJson`."""
    try:
        return strict_json.parse(body)
    except strict_json.BadJson as e:
        raise Refusal(e.code, e.detail, errors=e.errors, **e.members) from None
