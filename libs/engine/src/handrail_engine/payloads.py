"""Values that are too large for an event: stored beside the journal by digest, and shown as a reference.

A reference is `{"$ref", "bytes", "preview"}`, of an object also `fields`: its small members as they are, of the larger
ones a reference `{"$ref", "path"}` to that part. So conditions, gates and inputs read what lies inside a stored value
(`references.dig`), and only what is large travels by reference.
"""

from __future__ import annotations

import json
import marshal
from typing import Any, cast

from handrail_contracts.ids import digest
from handrail_engine.references import FIELDS, PATH, REF, stored_at

INLINE_BYTES = 48 * 1024
"""A larger output or evidence becomes a reference: several of them must fit into one event of 256 KiB."""
ALONE_BYTES = 96 * 1024
"""The same for a value that is alone in its event but for texts (an intent takes up to 80 KiB, labels 64): a workflow's
input, its output, what a person gave."""
_FIELD_BYTES = 1024
_FIELDS_BYTES = 8 * 1024
_PREVIEW = 200
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encoded(value: Any) -> bytes:
    """The value as compact JSON."""
    return _json(value).encode("utf-8", "surrogatepass")


def is_small(value: Any, most: int = ALONE_BYTES) -> bool:
    """True for a JSON value that surely takes no more than `most` bytes, told without writing it; False says nothing."""
    return 6 * len(marshal.dumps(value, 2)) <= most  # `false,` and an escaped character are the worst: 6 for 1


def reference(trace_id: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """The digest under which `body` (JSON) is stored, and what stands in its place."""
    mark = digest(body)
    return mark, stand_in(f"/workflows/{trace_id}/blobs/{mark}", body)


def stand_in(at: str, body: bytes) -> dict[str, Any]:
    """What stands in the place of a large value that is to be had at this path: where, how large, and how it begins."""
    return {REF: at, "bytes": len(body), "preview": body[:_PREVIEW].decode(errors="replace")}


def taken_over(value: Any, of: str, by: str) -> tuple[Any, set[str]]:
    """The value with references to payloads of workflow `of` as references to such of workflow `by`; and the digests under
    which these must be stored for it: nobody gets what another workflow has stored."""
    marks: set[str] = set()

    def own(v: Any) -> Any:
        if isinstance(v, list):
            return [own(member) for member in cast("list[Any]", v)]
        if not isinstance(v, dict):
            return v
        found = {name: own(member) for name, member in cast("dict[str, Any]", v).items()}
        at = stored_at(found)
        if at is not None and at[0] == of:
            marks.add(at[1])
            found[REF] = f"/workflows/{by}/blobs/{at[1]}"
        return found

    return own(value), marks


def fitting(trace_id: str, members: dict[str, Any], most: int) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The members of an object, the largest of them as references until all take no more than `most` bytes, and what is to be
    stored (digest, body). A name stays where it stands; an object of many small members may stay larger by the references."""
    if is_small(members, most):
        return members, []
    bodies = {name: encoded(value) for name, value in members.items()}
    took = sum(map(len, bodies.values()))
    shown, kept = dict(members), list[tuple[str, bytes]]()
    for name in sorted(bodies, key=lambda name: len(bodies[name]), reverse=True):
        if took <= most:
            break
        mark, shown[name] = reference(trace_id, bodies[name])
        kept.append((mark, bodies[name]))
        took += len(encoded(shown[name])) - len(bodies[name])
    return shown, kept


def with_fields(stored: dict[str, Any], value: Any) -> dict[str, Any]:
    """The reference, with what is small inside `value` at hand."""
    fields = _fields(stored[REF], value, ())
    return stored if fields is None else {**stored, FIELDS: fields}


def _fields(at: str, value: Any, path: tuple[str, ...]) -> dict[str, Any] | None:
    """All members of an object, or None where they would be too many: a member that is left out counts as missing."""
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    if len(members) > _FIELDS_BYTES // 4:
        return None
    found: dict[str, Any] = {}
    for name, member in members.items():
        if len(encoded(member)) <= _FIELD_BYTES:
            found[name] = member
            continue
        here = (*path, name)
        found[name] = {REF: at, PATH: list(here)}
        inner = _fields(at, member, here)
        if inner is not None:
            found[name][FIELDS] = inner
    return found if len(encoded(found)) <= _FIELDS_BYTES else None
