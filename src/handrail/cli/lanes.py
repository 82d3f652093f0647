"""A DAG as lines of text, one node per line: each open dependency is a lane that runs down to whoever waits for it.

    ●      a
    ├─●    b     waits for a, and so does more: the lane of a goes on
    ├─│─●  c     passes the lane of b
    ● │ │  d     the last that waits for a takes over its lane
    ●─┴─╯  e     waits for d, b and c

Pure. Nodes are laid out in topological levels, in plan order within a level, so nothing moves while a workflow runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST_LANES = 12
"""Wider graphs are shown by their levels only: more lanes than this are not followed by any eye."""


@dataclass(frozen=True, slots=True)
class Row:
    """One node: what stands left of its icon and right of it. All rows of a drawing are equally wide."""

    node_id: str
    level: int
    before: str
    after: str


@dataclass(slots=True)
class _Lane:
    source: str
    waiting: set[str] = field(default_factory=set[str])


def levels(dependencies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Node id -> the length of the longest way to it, in O(nodes + edges). Unknown dependencies are ignored."""
    level = dict.fromkeys(dependencies, 0)
    dependants: dict[str, list[str]] = {node_id: [] for node_id in dependencies}
    open_: dict[str, int] = {}
    for node_id, needs in dependencies.items():
        known = [d for d in dict.fromkeys(needs) if d in dependencies]
        open_[node_id] = len(known)
        for d in known:
            dependants[d].append(node_id)
    ready = [node_id for node_id, count in open_.items() if count == 0]
    while ready:
        node_id = ready.pop()
        for dependant in dependants[node_id]:
            level[dependant] = max(level[dependant], level[node_id] + 1)
            open_[dependant] -= 1
            if open_[dependant] == 0:
                ready.append(dependant)
    return level


def draw(dependencies: Mapping[str, Sequence[str]]) -> list[Row]:
    """The rows of a DAG, top to bottom. `dependencies`: node id -> what it depends on, in plan order."""
    level = levels(dependencies)
    place = {node_id: n for n, node_id in enumerate(dependencies)}
    order = sorted(dependencies, key=lambda node_id: (level[node_id], place[node_id]))
    drawn = _draw(dependencies, order)
    if drawn is None:
        return [Row(node_id, level[node_id], f"{level[node_id] + 1:>3} ", "") for node_id in order]
    drawn = [(before, after.rstrip()) for before, after in drawn]
    width = max((len(before) + 1 + len(after) for before, after in drawn), default=0)
    return [
        Row(node_id, level[node_id], before, after.ljust(width - 1 - len(before)))
        for node_id, (before, after) in zip(order, drawn, strict=True)
    ]


def _draw(dependencies: Mapping[str, Sequence[str]], order: Iterable[str]) -> list[tuple[str, str]] | None:
    dependants: dict[str, set[str]] = {node_id: set() for node_id in dependencies}
    for node_id, needs in dependencies.items():
        for d in needs:
            if d in dependants:
                dependants[d].add(node_id)
    lanes: list[_Lane | None] = []
    last = -1
    rows: list[tuple[str, str]] = []
    for node_id in order:
        comes_from = {i for i, lane in enumerate(lanes) if lane is not None and node_id in lane.waiting}
        for i in comes_from:
            lane = lanes[i]
            assert lane is not None
            lane.waiting.discard(node_id)
        closing = {i for i in comes_from if (lane := lanes[i]) is not None and not lane.waiting}
        # Never right below a node that it does not depend on: that would read as a dependency.
        column = min(closing) if closing else _free(lanes, last)
        if column >= MOST_LANES:
            return None
        rows.append(_row(lanes, column, comes_from, closing))
        for i in closing:
            lanes[i] = None
        last = column
        lanes[column] = _Lane(node_id, dependants[node_id]) if dependants[node_id] else None
        while lanes and lanes[-1] is None:
            lanes.pop()
    return rows


def _free(lanes: list[_Lane | None], but: int) -> int:
    for i, lane in enumerate(lanes):
        if lane is None and i != but:
            return i
    lanes.append(None)
    if len(lanes) - 1 == but:
        lanes.append(None)
    return len(lanes) - 1


def _row(lanes: Sequence[_Lane | None], column: int, comes_from: set[int], closing: set[int]) -> tuple[str, str]:
    low, high = min(comes_from | {column}), max(comes_from | {column})
    cells: list[str] = []
    for i, lane in enumerate(lanes):
        if i == column:
            cells.append("\0")
        elif i in comes_from:
            cells.append(_joint(i, low, high, closes=i in closing))
        elif lane is not None:
            cells.append("│")
        else:
            cells.append("─" if low < i < high else " ")
        cells.append("─" if low <= i < high else " ")
    before, _, after = "".join(cells).partition("\0")
    return before, after


def _joint(i: int, low: int, high: int, *, closes: bool) -> str:
    if i == low:
        return "╰" if closes else "├"
    if i == high:
        return "╯" if closes else "┤"
    return "┴" if closes else "┼"
