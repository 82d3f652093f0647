"""Where a node's inputs come from, written as attributes and checked against the types while the workflow is defined."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import is_typeddict

from handrail_sdk.failures import DefinitionError

_NOTHING: Any = object()


class Ref:
    """A value that stands when the node is dispatched: `workflow.input.sku`, `laptop.output.po`, `laptop.output["po"]`.

    Immutable. Parts that the type does not have are refused at once. `str(ref)` is the path as a plan writes it.
    """

    __slots__ = ("_default", "_node", "_path", "_type")

    def __init__(self, path: str, type_: Any, node: str | None, default: Any = _NOTHING) -> None:
        self._path, self._type, self._node, self._default = path, type_, node, default

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("__"):  # protocols ask for these
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, part: str | int) -> Ref:
        name, type_ = _part(self._type, part, self._path)
        return Ref(f"{self._path}.{name}", type_, self._node)

    def __str__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"Ref({self._path!r})"

    def __iter__(self) -> Any:
        raise TypeError(f"Expected a reference to be passed on, but {self._path!r} is iterated: it has no value yet.")

    def __bool__(self) -> bool:
        raise TypeError(f"Expected a reference to be passed on, but {self._path!r} is tested: it has no value yet.")


def default(ref: Ref, value: Any) -> Ref:
    """The reference with a value that stands in when there is nothing at its path, as when its node was skipped."""
    return Ref(ref._path, ref._type, ref._node, value)  # pyright: ignore[reportPrivateUsage] attributes are fields


def node_of(ref: Ref) -> str | None:
    """The id of the node whose output it reads; None for the workflow's input."""
    return ref._node  # pyright: ignore[reportPrivateUsage] attributes are fields


def written(value: Any, seen: set[str]) -> Any:
    """The value as a plan writes it, references as `{"$from": …}`; adds the nodes that it reads to `seen`."""
    if isinstance(value, Ref):
        if (node := node_of(value)) is not None:
            seen.add(node)
        given = value._default  # pyright: ignore[reportPrivateUsage] attributes are fields
        return {"$from": str(value)} if given is _NOTHING else {"$from": str(value), "default": given}
    if isinstance(value, Mapping):
        return {k: written(v, seen) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [written(v, seen) for v in value]
    return value


def _part(type_: Any, part: str | int, path: str) -> tuple[str, Any]:
    """The name of a part as JSON has it, and its type; Any where the type says nothing."""
    type_ = _bare(type_)
    if type_ is Any or type_ is object:
        return str(part), Any
    origin = get_origin(type_) or type_
    if isinstance(origin, type) and issubclass(origin, list | tuple):
        if isinstance(part, int):
            return str(part), next(iter(get_args(type_)), Any)
        raise DefinitionError(f"Expected an index into {path}, because it is a list, but found {part!r}.")
    if isinstance(origin, type) and issubclass(origin, Mapping) and not is_typeddict(origin):
        return str(part), (get_args(type_) or (Any, Any))[1]
    known = _fields(type_)
    if part not in known:
        offers = ", ".join(known) or "no parts"
        raise DefinitionError(f"Expected {path} to have a part {part!r}, but it has {offers}.")
    return known[str(part)]


def _bare(type_: Any) -> Any:
    """Without Annotated and without None; Any for every other union."""
    while True:
        origin = get_origin(type_)
        if origin is Annotated:
            type_ = get_args(type_)[0]
        elif origin in (Union, types.UnionType):
            some = [a for a in get_args(type_) if a is not type(None)]
            type_ = some[0] if len(some) == 1 else Any
        else:
            return type_


def _fields(type_: Any) -> dict[str, tuple[str, Any]]:
    """name -> (name in JSON, type)."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        found = {n: (f.serialization_alias or f.alias or n, f.annotation) for n, f in type_.model_fields.items()}
        return found | {alias: (alias, t) for alias, t in found.values()}
    if is_typeddict(type_):
        return {n: (n, t) for n, t in get_type_hints(type_).items()}
    if is_dataclass(type_) and isinstance(type_, type):
        hints = get_type_hints(type_)
        return {f.name: (f.name, hints[f.name]) for f in fields(type_)}
    return {}
