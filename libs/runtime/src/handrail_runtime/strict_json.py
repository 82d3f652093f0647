"""JSON as a stranger sends it: RFC 8259, and nothing that two parsers would read differently or PostgreSQL cannot store.

`parse` reads with orjson and then proves what orjson does not look at. Its output written again is the input, byte for
byte but for blanks, when the body is written as most programs write; then no key can have stood twice. Only other bodies
are read a second time, by the standard library with hooks. Cheap upper bounds (brackets, runs of digits) spare the walks
that they make needless.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import orjson

from handrail_contracts.pointers import Trail, told_of
from handrail_contracts.problems import quote

MAX_DEPTH = 64
MAX_ITEMS = 200_000
MAX_INTEGER = 2**53

_ALL_DIGITS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_BLANKS = b" \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadJson(Exception):
    """A body that is not read. `code` is that of a problem, `detail` its sentence; `errors` are {pointer, code, message};
    `members` appear in the problem as they are."""

    def __init__(
        self, code: str, detail: str, *, errors: Sequence[Mapping[str, str]] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors, self.members = code, detail, errors, members


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises BadJson: malformed-json, too-deep, too-many-items, duplicate-key,
    number-out-of-range, invalid-text. Linear in the body; never recurses."""
    if b"\x00" in body:
        raise BadJson("invalid-text", "Expected text without NUL characters, but the body has one. Leave it out.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        _say_why(body, e)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH or len(body) > MAX_ITEMS:
        _measure(value)
    if b"\\u0000" in body:
        _refuse_nul(value)
    # A pattern would take as long as all the rest.
    if b"0" * 16 in body.translate(_ALL_DIGITS_ZERO) or not _written_as(value, body):
        _reread(body.decode())
    return value


def _written_as(value: Any, body: bytes) -> bool:
    """Whether `value` is written as `body`, but for blanks. Those within texts are left out on both sides: they part no
    tokens, so two that differ in how many members an object has stay different."""
    written = orjson.dumps(value)
    return written == body or written.translate(None, _BLANKS) == body.translate(None, _BLANKS)


class _Twice(dict[str, Any]):
    """An object with a key that stood twice."""

    __slots__ = ("key",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.key = next(k for k, _ in pairs if k in seen or seen.add(k))


class _OutOfRange:
    """Stands where a number was that we do not take."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Reading:
    """One reading with the standard library; `marked` once something was found that `_walk` must point at."""

    __slots__ = ("marked",)

    def __init__(self) -> None:
        self.marked = False

    def decode(self, text: str) -> Any:
        return json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._real,
            parse_constant=self._out_of_range,
        ).decode(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.marked = True
        return _Twice(pairs)

    def _integer(self, text: str) -> int | _OutOfRange:
        if len(text) <= 15:
            return int(text)
        if len(text) <= 17 and abs(value := int(text)) <= MAX_INTEGER:
            return value
        return self._out_of_range(text)

    def _real(self, text: str) -> float | _OutOfRange:
        value = float(text)
        return value if math.isfinite(value) else self._out_of_range(text)

    def _out_of_range(self, text: str) -> _OutOfRange:
        self.marked = True
        return _OutOfRange(text)


def _reread(text: str) -> Any:
    reading = _Reading()
    value = reading.decode(text)
    for trail, found in _walk(value) if reading.marked else ():
        if isinstance(found, _Twice):
            at = told_of((trail, found.key))
            raise BadJson(
                "duplicate-key",
                f"Expected each key once, but {quote(found.key)} stands twice at {quote(at)}. Keep one.",
                errors=[{"pointer": at, "code": "duplicate-key", "message": "This key stands twice."}],
            )
        if isinstance(found, _OutOfRange):
            pointer = told_of(trail)
            raise BadJson(
                "number-out-of-range",
                f"Expected a finite number, and integers up to 2^53, but found {quote(found.text)} at {quote(pointer)}."
                " Send larger integers as text.",
                errors=[{"pointer": pointer, "code": "number-out-of-range", "message": "Out of range."}],
            )
    return value


def _walk(value: Any) -> list[tuple[Trail, Any]]:
    """(trail, value) of everything, the outermost first."""
    found: list[tuple[Trail, Any]] = [(None, value)]
    for trail, v in found:
        if isinstance(v, dict):
            found.extend(((trail, k), x) for k, x in v.items() if not isinstance(x, str))
        elif isinstance(v, list):
            found.extend(((trail, i), x) for i, x in enumerate(v) if not isinstance(x, str))
    return found


def _measure(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for container in level:
            children = container.values() if type(container) is dict else container
            if type(container) is list and len(container) > MAX_ITEMS:
                raise BadJson(
                    "too-many-items",
                    f"Expected at most {MAX_ITEMS} items in a list, but one has {len(container)}. Send fewer.",
                    limit=MAX_ITEMS,
                )
            if type(container) is dict or type(container) is list:
                deeper.extend([c for c in children if type(c) is dict or type(c) is list])
        if not deeper:
            return
        level = deeper
    _too_deep()


def _too_deep() -> NoReturn:
    raise BadJson(
        "too-deep", f"Expected at most {MAX_DEPTH} levels of nesting, but the body has more.", limit=MAX_DEPTH
    )


def _refuse_nul(value: Any) -> None:
    _refuse_text(value, lambda text: "\x00" in text, "NUL characters")


def _refuse_text(value: Any, bad: Callable[[str], bool], what: str) -> None:
    stack: list[tuple[Trail, Any]] = [(None, value)]
    while stack:
        trail, v = stack.pop()
        if isinstance(v, str) and bad(v):
            _invalid_text(told_of(trail), what)
        elif isinstance(v, dict):
            for key, x in v.items():
                if bad(key):
                    _invalid_text(told_of(trail), what)
                stack.append(((trail, key), x))
        elif isinstance(v, list):
            stack.extend(((trail, i), x) for i, x in enumerate(v))


def _invalid_text(pointer: str, what: str) -> NoReturn:
    raise BadJson(
        "invalid-text",
        f"Expected text without {what}, but there is one at {quote(pointer)}. Leave it out.",
        errors=[{"pointer": pointer, "code": "invalid-text", "message": f"Holds {what}."}],
    )


def _say_why(body: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    """orjson did not read it: says which rule was broken, as precisely as the standard library can tell."""
    try:
        text = body.decode()
    except UnicodeDecodeError as e:
        raise BadJson("invalid-text", f"Expected UTF-8, but byte {e.start} of the body is not.") from None
    try:
        value = _reread(text)
    except json.JSONDecodeError as e:
        raise BadJson(
            "malformed-json",
            f"Expected JSON, but at line {e.lineno}, column {e.colno}: {e.msg}.",
            line=e.lineno,
            column=e.colno,
        ) from None
    except RecursionError:
        _too_deep()
    _refuse_text(value, lambda t: _SURROGATE.search(t) is not None, "lone surrogates")
    _measure(value)
    raise BadJson(
        "malformed-json",
        f"Expected JSON, but at line {error.lineno}, column {error.colno}: {error.msg}.",
        line=error.lineno,
        column=error.colno,
    )
