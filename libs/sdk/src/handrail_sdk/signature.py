"""Reads what a task takes and gives from how it is written: its inputs, its output, and whether it wants the context."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo

from handrail_sdk.context import Context
from handrail_sdk.failures import DefinitionError

Call = Callable[[tuple[Any, ...], Context | None], Awaitable[Any]]
"""Calls a function with as many of the values as it takes, and with the context if it wants it; None will do if not."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes. `takes` counts its parameters besides the context, `wants_context` says whether it has that;
    `gives` is its return annotation, Any where there is none; `first` the annotation of its first parameter."""

    call: Call
    takes: int
    wants_context: bool
    first: Any
    gives: Any


def read(function: Callable[..., Any], scope: Mapping[str, Any], most: int, where: str) -> Signature:
    """The signature of an async function with at most `most` parameters besides the context. Raises DefinitionError."""
    if not inspect.iscoroutinefunction(function):
        raise DefinitionError(f"Expected an async function for {where}, but it is not one. Write `async def`.")
    try:
        hints = get_type_hints(function, localns=dict(scope), include_extras=True)
    except NameError as e:
        raise DefinitionError(
            f"Expected the annotations of {where} to be known where it is defined, but {e.name!r} is not. "
            "Define or import it above the task, outside `if TYPE_CHECKING`."
        ) from e
    names: list[str] = []
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise DefinitionError(f"Expected plain parameters on {where}, but found {parameter}.")
        if parameter.name == "ctx" or hints.get(parameter.name) is Context:
            context = parameter.name
        elif context is not None:
            raise DefinitionError(
                f"Expected the context as the last parameter of {where}, but {parameter.name} follows."
            )
        else:
            names.append(parameter.name)
    if len(names) > most:
        raise DefinitionError(
            f"Expected at most {most} parameter(s) and a ctx on {where}, but found {', '.join(names)}. "
            "Put the inputs into one pydantic model."
        )
    first = hints.get(names[0], dict[str, Any]) if names else dict[str, Any]
    wants = context is not None
    return Signature(_caller(function, len(names), wants), len(names), wants, first, hints.get("return", Any))


def _caller(function: Callable[..., Awaitable[Any]], takes: int, wants_context: bool) -> Call:
    match takes, wants_context:
        case 0, False:
            return lambda values, ctx: function()
        case 0, True:
            return lambda values, ctx: function(ctx)
        case 1, False:
            return lambda values, ctx: function(values[0])
        case 1, True:
            return lambda values, ctx: function(values[0], ctx)
        case _, False:
            return lambda values, ctx: function(*values)
        case _:
            return lambda values, ctx: function(*values, ctx)


def adapter(type_: Any, what: str) -> TypeAdapter[Any]:
    """The validator of a type. Raises DefinitionError where pydantic knows nothing of it."""
    try:
        return TypeAdapter(type_)
    except (PydanticUserError, PydanticUndefinedAnnotation) as e:
        raise DefinitionError(
            f"Expected {what} to be a pydantic model, a dataclass, a TypedDict or plain JSON, "
            f"but found {type_!r}: {e.message.splitlines()[0]}"
        ) from e


def fields_of(type_: Any) -> set[str] | None:
    """The names that the inputs may have, or None where they are not known or more are allowed."""
    if isinstance(type_, type) and issubclass(type_, BaseModel) and type_.model_config.get("extra") != "allow":
        return {_name(name, field) for name, field in type_.model_fields.items()}
    return None


def required_of(type_: type[BaseModel]) -> set[str]:
    """The names of the inputs that have no default."""
    return {_name(name, field) for name, field in type_.model_fields.items() if field.is_required()}


def _name(name: str, field: FieldInfo) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else name
