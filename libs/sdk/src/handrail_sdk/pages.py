"""Answers as typed objects: one, or a page of a list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from handrail_sdk.client_errors import Unexpected

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
"""Not given at all, where None is a value."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list. `next_cursor` is what to ask with for the next part, None at the end; `more` holds what else
    the server said about the list."""

    items: list[T]
    next_cursor: str | None
    more: dict[str, Any] = field(default_factory=dict[str, Any])


def one(model: type[M], answer: Any) -> M:
    """The answer as `model`. Raises Unexpected when the server speaks otherwise."""
    try:
        return model.model_validate(answer)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise Unexpected(
            f"Expected an answer of the form {model.__name__}, but at /{where}: {first['msg'][:160]}."
            " Is the server of another version than this client?"
        ) from e


def page(model: type[M], answer: Any) -> Page[M]:
    """A list answer as a page of `model`. Raises Unexpected."""
    if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
        raise Unexpected("Expected a list answer with `items`, but the answer is not one.")
    rest = {k: v for k, v in answer.items() if k not in ("items", "next_cursor")}
    return Page([one(model, item) for item in answer["items"]], answer.get("next_cursor"), rest)
