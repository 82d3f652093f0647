"""Inputs of buttons and blueprints: from words on the command line, or asked for field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from handrail.cli.text import compact, safe

_AS_TEXT = frozenset({"url", "email", "text", "date"})
_HINTS = {
    "url": "a URL, as https://vendor.example/item",
    "email": "an e-mail address",
    "text": "a text",
    "date": "a date, as 2026-01-31",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "json": "JSON",
}


def parse(schema: Any, text: str) -> Any:
    """`text` from the command line as the value that `schema` asks for: texts as they are, all else read as JSON.
    The server is the judge of validity. Raises typer.BadParameter on what is not JSON where JSON is needed."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    choices = schema.get("enum", ()) if isinstance(schema, Mapping) else ()
    texts = kind == "string" or (isinstance(kind, list) and "string" in kind and text != "null")
    if texts or text in choices or (isinstance(schema, str) and schema in _AS_TEXT):
        return text
    try:
        return json.loads(text)
    except ValueError as e:
        raise typer.BadParameter(f"Expected {hint(schema)}, but found {text[:60]!r}.") from e


def loose(text: str) -> Any:
    """A value whose type nobody declared: JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def hint(schema: Any) -> str:
    """What to type."""
    if isinstance(schema, str):
        return _HINTS.get(schema, safe(schema))
    if isinstance(schema, Mapping):
        if schema.get("enum"):
            return "one of " + ", ".join(compact(v) for v in schema["enum"])
        kind = schema.get("type")
        return _HINTS.get({"string": "text"}.get(str(kind), str(kind)), "JSON")
    return "JSON"


def ask(schema: Any, now: Mapping[str, Any] | None = None) -> Any:
    """Asks a person for the value: field by field for a flat object, else in one line; `now` are the values that stand, kept
    with Enter. Raises typer.Abort on Ctrl-C."""
    if isinstance(schema, Mapping) and isinstance(schema.get("properties"), Mapping) and _flat(schema["properties"]):
        required = schema.get("required") or []
        answers: dict[str, Any] = {}
        for name, field in schema["properties"].items():
            stands = {"default": now[name]} if now is not None and name in now else {}
            value = _ask_one(safe(field.get("title") or name), {**field, **stands}, needed=name in required)
            if value is not None:
                answers[name] = value
        return answers
    return _ask_one("Input", schema, needed=True)


def _flat(properties: Mapping[str, Any]) -> bool:
    return all(isinstance(p, Mapping) and p.get("type") not in ("object", "array") for p in properties.values())


def _ask_one(label: str, schema: Any, *, needed: bool) -> Any:
    default = schema.get("default") if isinstance(schema, Mapping) else None
    while True:
        shown = None if default is None else compact(default)
        text = typer.prompt(
            f"{label} ({hint(schema)}{'' if needed else ', Enter leaves it out'})",
            default=shown if shown is not None else "" if not needed else None,
            show_default=shown is not None,
        ).strip()
        if not text:
            return None
        if shown is not None and text == shown:
            return default
        try:
            return parse(schema, text)
        except typer.BadParameter as e:
            typer.echo(f"  {e}", err=True)
