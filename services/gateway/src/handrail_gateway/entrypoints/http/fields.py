"""Fields as every door of Handrail reads them (`handrail_runtime.strict_fields`), refused as the gateway refuses."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from handrail_gateway.application.faults import Refusal
from handrail_runtime import strict_fields

M = TypeVar("M", bound=BaseModel)


def read(model: type[M], body: bytes, value: Any) -> M:
    """The body as `model`; `value` is what `strict_json.parse` read from it. Raises Refusal with the code of `BadFields`."""
    try:
        return strict_fields.read(model, body, value)
    except strict_fields.BadFields as e:
        raise Refusal(e.code, e.detail, errors=e.errors) from None
