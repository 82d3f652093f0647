"""The buttons that a pause of a task offers: declared by the task's author, never by a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError

from handrail_contracts.plan import InputSchema, Resolution, ResolutionKind
from handrail_sdk.failures import DefinitionError

Style = Literal["primary", "neutral", "danger"]


def Skip(
    action_id: str, display_text: str, *, schema: InputSchema | None = None, style: Style = "neutral"
) -> Resolution:
    """A button that goes on without this node; with `schema` the person gives an output that stands in for its own."""
    return _button(action_id, display_text, ResolutionKind.SKIP, style, schema)


def Retry(
    action_id: str,
    display_text: str,
    *,
    sets: str | None = None,
    schema: InputSchema | None = None,
    style: Style = "primary",
) -> Resolution:
    """A button that starts a fresh round of attempts; what the person gives replaces the input named by `sets`.

    `schema` is a shorthand (`url email text number integer boolean date json`) or JSON Schema. Both or neither.
    """
    if (sets is None) != (schema is None):
        raise DefinitionError(
            f"Expected `sets` and `schema` together on {action_id!r}, but only one is given. "
            "`sets` names the input that is replaced, `schema` says what may be put there."
        )
    return _button(action_id, display_text, ResolutionKind.RETRY, style, schema, sets=sets)


def Abort(action_id: str, display_text: str, *, style: Style = "danger") -> Resolution:
    """A button that undoes everything, in reverse."""
    return _button(action_id, display_text, ResolutionKind.COMPENSATE, style, None)


def _button(
    action_id: str, text: str, kind: ResolutionKind, style: Style, schema: InputSchema | None, **more: Any
) -> Resolution:
    given: dict[str, Any] = {k: v for k, v in more.items() if v is not None}
    if schema is not None:
        given["input_schema"] = schema
    try:
        return Resolution(
            action_id=action_id,
            display_text=text,
            requires_input=schema is not None,
            style=style,
            kind=kind,
            **given,
        )
    except ValidationError as e:
        first = e.errors()[0]
        raise DefinitionError(
            f"Expected a resolution with an id such as RES_SKIP and a text, but {action_id!r} is none: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from e
