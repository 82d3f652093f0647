"""Content from outside: which nodes come after it, so that none of them acts on it before a person has looked.

A node's answer is *untrusted* where its agent or its plan says so. A node is *tainted* when it comes after an untrusted or a
tainted one, or was written by one. A tainted node with side effects gets a gate by itself (`gates.admits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from handrail_contracts.plan import Gate
from handrail_contracts.pointers import told
from handrail_contracts.policy import ARGS
from handrail_engine.references import FROM, walk

SUMS = ("$plus", "$minus")
"""What a diff can work out of two numbers."""


class Taint(Protocol):
    """A node of a running workflow, as far as it matters here."""

    @property
    def untrusted(self) -> bool:
        """Its answer holds content from outside."""
        ...

    @property
    def tainted(self) -> bool:
        """It comes after such a node."""
        ...


def mark_tainted(compiled: list[dict[str, Any]], known: Mapping[str, Taint], *, all_: bool = False) -> None:
    """Marks the compiled nodes (in topological order) that come after untrusted content; with `all_` every one."""
    sources = {k for k, n in known.items() if n.untrusted or n.tainted}
    for node in compiled:
        if all_ or any(d in sources for d in node.get("depends_on", ())):
            node["tainted"] = True
        if node.get("tainted") or node.get("untrusted"):
            sources.add(node["id"])


def gate_problem(gate: Gate) -> tuple[str, str] | None:
    """(pointer, sentence) of what is wrong with a gate, or None."""
    for i, path in enumerate(gate.redact):
        if not path.startswith(ARGS) or len(path) == len(ARGS):
            return f"/redact/{i}", f"Expected args.<path>, but found {path[:80]!r}."
    if isinstance(gate.affected, str) and not gate.affected.startswith(ARGS):
        return "/affected", f"Expected a number or args.<path>, but found {gate.affected[:80]!r}."
    if gate.diff is not None:
        for side, values in (("before", gate.diff.before), ("after", gate.diff.after)):
            for pointer, reference in walk(values, f"/diff/{side}"):
                text = reference[FROM]
                if not isinstance(text, str) or not text.startswith((ARGS, "input.", "nodes.")):
                    return (
                        pointer,
                        f"Expected args.<path>, input.<path> or nodes.<id>.output.<path>, but found {str(text)[:80]!r}.",
                    )
            for name, value in values.items():
                if (wrong := _sum_problem(value, f"/diff/{side}/{told(name)}")) is not None:
                    return wrong
    return None


def _sum_problem(value: Any, at: str) -> tuple[str, str] | None:
    """What is wrong with `{"$plus": [a, b]}`, `{"$minus": [a, b]}`: both sides are numbers, references or such sums."""
    if not _is_sum(value):
        return None
    ((op, sides),) = value.items()
    if not isinstance(sides, list) or len(sides) != 2:
        return f"{at}/{op}", f'Expected two numbers or references, as in {{"{op}": [a, b]}}.'
    for i, side in enumerate(sides):
        if _is_sum(side):
            if (wrong := _sum_problem(side, f"{at}/{op}/{i}")) is not None:
                return wrong
            continue
        number = isinstance(side, int | float) and not isinstance(side, bool)
        if not number and not (isinstance(side, dict) and set(side) == {FROM}):
            return f"{at}/{op}/{i}", "Expected a number, a reference without a default or another sum."
    return None


def _is_sum(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in SUMS
