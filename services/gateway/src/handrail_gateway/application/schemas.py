"""JSON Schema 2020-12 on values of strangers, by schemas of strangers: nothing is fetched, patterns cannot run away."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from handrail_contracts.pauses import SHORTHANDS
from handrail_contracts.pointers import told
from handrail_gateway.application.faults import quote

MAX_ERRORS = 50
_MASK = "The value"
"""Stands in messages where the library would quote the whole value."""
_FORMATS = {
    "uri": "a URL such as https://example.org/a",
    "email": "an e-mail address such as ada@example.org",
    "date": "a date such as 2026-01-31",
}
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1_000_000)  # a linear-time engine: no look-around, no back-references


class BadSchema(ValueError):
    """The schema itself is not one that we use. `pointer` leads into it."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


def expanded(schema: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """A shorthand as the JSON Schema that it stands for; anything else as it is."""
    return SHORTHANDS[schema] if isinstance(schema, str) else schema


def check(schema: Mapping[str, Any]) -> None:
    """Raises BadSchema when it cannot be used: not valid, references that lead outside, a pattern that is refused."""
    _validator(_key(schema))


def faults(schema: Mapping[str, Any], value: Any, at: str = "") -> list[dict[str, str]]:
    """What is wrong with `value`, as {pointer, code, message}; pointers begin with `at`. Raises BadSchema."""
    found: list[dict[str, str]] = []
    for error in _validator(_key(schema)).iter_errors(value):
        found.extend(_shown(error, at))
        if len(found) >= MAX_ERRORS:
            break
    return found[:MAX_ERRORS]


def _shown(error: jsonschema_rs.ValidationError, at: str) -> list[dict[str, str]]:
    pointer = at + "".join(f"/{told(part)}" for part in error.instance_path)
    keyword = error.kind.name
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return [{"pointer": f"{pointer}/{told(name)}", "code": keyword, "message": "Required, but missing."}]
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
            return [{"pointer": f"{pointer}/{told(n)}", "code": keyword, "message": "Not allowed."} for n in names]
        case _:
            scalar = not isinstance(error.instance, dict | list)
            what = f", but found {quote(error.instance)}" if scalar else ""
            return [{"pointer": pointer, "code": keyword, "message": f"{_sentence(error)}{what}."}]


def _sentence(error: jsonschema_rs.ValidationError) -> str:
    """What the schema wants, in words where it is one of ours."""
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Pattern(pattern=pattern) if pattern == SHORTHANDS["url"]["pattern"]:
            return "Expected a URL that begins with http:// or https://"
        case jsonschema_rs.ValidationErrorKind.Format(format=name) if name in _FORMATS:
            return f"Expected {_FORMATS[name]}"
        case _:
            return error.message[:200]


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that a schema of an object declares for its properties."""
    properties: Mapping[str, Any] = schema.get("properties") or {}
    return {name: p["default"] for name, p in properties.items() if isinstance(p, dict) and "default" in p}


def _key(schema: Mapping[str, Any]) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=512)
def _validator(key: bytes) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            orjson.loads(key), validate_formats=True, offline=True, pattern_options=_PATTERNS, mask=_MASK
        )
    except (ValueError, jsonschema_rs.ReferencingError) as e:
        path = getattr(e, "instance_path", ())
        message = str(getattr(e, "message", e)).splitlines()[0][:200]
        raise BadSchema(message, "".join(f"/{told(part)}" for part in path)) from None
