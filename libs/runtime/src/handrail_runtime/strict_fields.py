"""A body as every door of Handrail reads it, once it is JSON: what it says it is, and its fields against a model. Every fault is
told at once, each with a JSON pointer, unknown fields with the nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from handrail_contracts.patterns import WORDS
from handrail_contracts.pointers import told
from handrail_contracts.problems import quote

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
MAX_ERRORS = 200
_POLICY = re.compile(r"/nodes/\d+/(retry|timeouts|compensation/(retry|timeouts))(/|$)")
_TIME_ERRORS = frozenset({"datetime_parsing", "datetime_type", "timezone_aware", "date_parsing"})


class BadFields(Exception):
    """A body that is not what was expected. `code` is that of a problem, `detail` its sentence; `errors` are {pointer, code,
    message}."""

    def __init__(self, code: str, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, errors


def unread_type(content_type: str) -> str | None:
    """Why a body of this Content-Type is not read, or None: it must say that it is JSON, in UTF-8."""
    type_, *parameters = content_type.split(";")
    said = (p.strip().lower().replace('"', "").replace(" ", "") for p in parameters)
    if type_.strip().lower() == JSON and all(not p.startswith("charset=") or p == "charset=utf-8" for p in said):
        return None
    found = quote(content_type) if content_type else "no Content-Type"
    return f"Expected Content-Type {JSON} in UTF-8, but found {found}."


def unread_encoding(content_encoding: str) -> str | None:
    """Why a body of this Content-Encoding is not read, or None: none is unpacked."""
    if not content_encoding or content_encoding.lower() == "identity":
        return None
    return f"Expected a body without Content-Encoding, but found {quote(content_encoding)}."


def read(model: type[M], body: bytes, value: Any, *, strict: bool = True) -> M:
    """The body as `model`; `value` is what `strict_json.parse` read from it. With `strict` types are taken literally: no number
    from a text. Raises BadFields: unknown-field where one is unknown, invalid-retry-policy where only retry policies and
    timeouts are wrong, invalid-time where only times are, else validation."""
    try:
        return model.model_validate_json(body, strict=strict)
    except ValidationError as e:
        raise _bad(model, value, e) from None


def _bad(model: type[BaseModel], value: Any, error: ValidationError) -> BadFields:
    faults = error.errors(include_url=False, include_input=False, include_context=True)
    errors = [_fault(model, value, f) for f in faults[:MAX_ERRORS]]
    kinds = {f["type"] for f in faults}
    if "extra_forbidden" in kinds:
        code = "unknown-field"
        first = next(e for e in errors if e["code"] == "unknown-field")
    else:
        first = errors[0]
        code = "validation"
        if all(_POLICY.search(e["pointer"]) for e in errors):
            code = "invalid-retry-policy"
        elif kinds <= _TIME_ERRORS:
            code = "invalid-time"
    where = quote(first["pointer"]) if first["pointer"] else "the top"
    more = f" {len(faults)} faults in all; `errors` lists them." if len(faults) > 1 else ""
    return BadFields(code, f"Expected a valid body, but at {where}: {first['message']}{more}", errors)


def _fault(model: type[BaseModel], value: Any, fault: Any) -> dict[str, str]:
    loc: tuple[str | int, ...] = fault["loc"]
    kind: str = fault["type"]
    at = pointer(value, loc, missing=kind == "missing")
    if kind == "extra_forbidden":
        name = str(loc[-1])
        near = difflib.get_close_matches(name, _known(model, loc[:-1]), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return {"pointer": at, "code": "unknown-field", "message": f"Unknown field {quote(name)}.{hint}"}
    message = _sentence(fault["msg"])
    if kind == "string_pattern_mismatch" and fault["ctx"]["pattern"] in WORDS:
        message = f"Expected {WORDS[fault['ctx']['pattern']]}."
    return {"pointer": at, "code": kind.replace("_", "-"), "message": message}


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").removeprefix("Assertion failed, ")[:400]
    return text if text.endswith((".", "?")) else f"{text}."


def pointer(value: Any, loc: Iterable[str | int], *, missing: bool = False) -> str:
    """A pydantic location as a JSON pointer into the body. Parts that name a branch of a union are no part of it."""
    at, found = value, ""
    parts = list(loc)
    for i, part in enumerate(parts):
        if isinstance(at, dict) and part in at:
            at, found = at[part], f"{found}/{told(part)}"
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at, found = at[part], f"{found}/{part}"
        elif missing and i == len(parts) - 1 and isinstance(part, str):
            found = f"{found}/{told(part)}"
    return found


def _known(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The names that the object at `loc` may have: those of the model there, else of every model that has such a field."""
    at: list[type[BaseModel]] = [model]
    for part in loc:
        if not isinstance(part, str):
            continue
        deeper = [m for owner in at for m in _models_of(owner, part)]
        if deeper:
            at = deeper
    return [field.alias or name for owner in at for name, field in owner.model_fields.items()]


def _models_of(owner: type[BaseModel], name: str) -> list[type[BaseModel]]:
    field = owner.model_fields.get(name) or next((f for f in owner.model_fields.values() if f.alias == name), None)
    if field is None:
        return []
    found: list[type[BaseModel]] = []
    stack: list[Any] = [field.annotation]
    while stack:
        kind = stack.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        else:
            stack.extend(getattr(kind, "__args__", ()))
    return found
