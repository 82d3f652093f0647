"""Where a node's inputs come from: `{"$from": "input.budget"}`, `{"$from": "nodes.quote.output.price", "default": 0}`.

A node id may hold dots, so a path is read against the known ids, longest first. A reference with a `default` lives
without its source; one without takes its node down when the source was skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from handrail_contracts.ids import DIGEST, TRACE_ID
from handrail_contracts.pointers import Trail, told_of

FROM = "$from"
REF, PATH, FIELDS = "$ref", "path", "fields"
"""Of a reference to a value stored beside the journal: see `payloads.py`."""
MISSING: Any = object()
"""What a lookup answers when there is nothing at the path; never a value of a workflow."""
_STORED = re.compile(rf"/workflows/({TRACE_ID.pattern})/blobs/({DIGEST.pattern})")
_MOST_DIGITS = 12


class Reference(NamedTuple):
    """A parsed path. `node_id` is None for the workflow's input."""

    node_id: str | None
    path: tuple[str, ...]


class BadReference(ValueError):
    """The text is not a reference."""


def is_reference(value: Any) -> bool:
    """True for `{"$from": …}` with an optional `default` and nothing else."""
    return isinstance(value, dict) and FROM in value and set(value) <= {FROM, "default"}


def parse(text: Any, node_ids: Collection[str]) -> Reference:
    """Reads `input…` or `nodes.<id>.output…`. Raises BadReference with a sentence for the author."""
    if not isinstance(text, str):
        raise BadReference("Expected a reference such as input.sku or nodes.quote.output.price, but it is not a text.")
    if text == "input" or text.startswith("input."):
        return Reference(None, tuple(text.split(".")[1:]))
    if text.startswith("nodes."):
        rest = text[6:]
        cut = rest.find(".output")
        while cut >= 0:
            tail = rest[cut + 7 :]
            if rest[:cut] in node_ids and (tail == "" or tail.startswith(".")):
                return Reference(rest[:cut], tuple(tail.split(".")[1:]))
            cut = rest.find(".output", cut + 1)
    raise BadReference(f"Expected input.<path> or nodes.<id>.output.<path> with a known node, but found {text[:80]!r}.")


def walk(value: Any, pointer: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All references inside a JSON value, each with its JSON pointer. Iterative, so depth costs nothing."""
    stack: list[tuple[Trail, Any]] = [(None, value)]
    while stack:
        trail, v = stack.pop()
        if isinstance(v, dict):
            if FROM in v and set(v) <= {FROM, "default"}:
                yield told_of(trail, pointer), v
            else:
                stack.extend(((trail, k), x) for k, x in v.items())
        elif isinstance(v, list):
            stack.extend(((trail, i), x) for i, x in enumerate(v))


def references(value: Any) -> Iterator[Mapping[str, Any]]:
    """All references inside a JSON value, as `walk` finds them, for whoever does not ask where they stand."""
    stack: list[Any] = [value]
    while stack:
        v = stack.pop()
        if isinstance(v, dict):
            if FROM in v and set(v) <= {FROM, "default"}:
                yield v
            else:
                stack.extend(v.values())
        elif isinstance(v, list):
            stack.extend(v)


def dig(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a dotted path through objects and lists, or MISSING; never raises, whatever the path. Inside a value that
    is stored beside the journal it is a reference to that part, which whoever sends it fills in, unless the part is small
    enough to be at hand."""
    for i, part in enumerate(path):
        if isinstance(value, dict):
            if REF in value and is_stored(value):
                return _inside(value, path[i:])
            if part not in value:
                return MISSING
            value = value[part]
        elif isinstance(value, list):
            at = _place(part)
            if at is None or at >= len(value):
                return MISSING
            value = value[at]
        else:
            return MISSING
    return value


def _place(part: str) -> int | None:
    """Which item of a list a part of a path means: ASCII digits of a length that a list can have. Other digits are none:
    not all of them are numbers to `int`, nor are too many."""
    return int(part) if part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS else None


def is_stored(value: Any) -> bool:
    """True for a reference to a value that is stored beside the journal, or to a part of one. Whatever else holds a `$ref`,
    somebody's JSON Schema or a reference that is not as we write it, is data like any other."""
    return stored_at(value) is not None


def stored_at(value: Any) -> tuple[str, str] | None:
    """(trace_id, digest) of what a reference means, or None where the value is no reference."""
    if not isinstance(value, dict) or not isinstance(at := value.get(REF), str):
        return None
    found = _STORED.fullmatch(at)
    path, fields = value.get(PATH, ()), value.get(FIELDS, {})
    if found is None or not isinstance(fields, dict) or not isinstance(path, list | tuple):
        return None
    return (found[1], found[2]) if all(isinstance(part, str) for part in path) else None


def _inside(stored: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if FIELDS in stored:
        return dig(stored[FIELDS], path)
    return {REF: stored[REF], PATH: [*stored.get(PATH, ()), *path]}


def resolve(value: Any, look_up: Callable[[str], Any]) -> Any:
    """The value with every reference replaced by what `look_up(text)` answers; MISSING becomes the default, else null."""
    if isinstance(value, dict):
        if FROM in value and (len(value) == 1 or set(value) == {FROM, "default"}):
            found = look_up(value[FROM])
            if found is MISSING:
                return value.get("default")
            later = "default" in value and is_stored(found) and PATH in found
            return {**found, "default": value["default"]} if later else found
        return {k: resolve(v, look_up) for k, v in value.items()}
    if isinstance(value, list):
        return [resolve(v, look_up) for v in value]
    return value


def holds(condition: Mapping[str, Any], found: Any) -> bool:
    """Whether a `when` condition holds for the value at its `ref`. All given comparisons must hold; comparing unlike types is false."""
    for op, want in condition.items():
        if op == "ref":
            continue
        if op == "exists":
            if (found is not MISSING) != want:
                return False
            continue
        value = None if found is MISSING else found
        match op:
            case "eq":
                ok = _same(value, want)
            case "ne":
                ok = not _same(value, want)
            case "in":
                ok = any(_same(value, one) for one in want)
            case "gt" | "ge" | "lt" | "le":
                ok = _compare(op, value, want)
            case _:
                ok = False
        if not ok:
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON has it: 1 is 1.0, and true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


def _compare(op: str, value: Any, want: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return {"gt": value > want, "ge": value >= want, "lt": value < want, "le": value <= want}[op]
