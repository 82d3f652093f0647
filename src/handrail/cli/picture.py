"""A workflow as a picture for a terminal: headline, progress, the DAG with a line per node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from handrail.cli import looks
from handrail.cli.lanes import Row, draw
from handrail.cli.text import compact, duration, safe, seconds_of, short
from handrail_contracts.view import WorkflowView

_NAME_CELLS = 32
_AGENT_FROM_CELLS = 110
_NAME, _AGENT = 1, 5
_RIGHT = (3, 4)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a picture is drawn for. `now_s`: the server's clock, seconds since 1970. `rows`: at most so many node lines
    (None: all). `spin`: the step of the spinner. `progress`: node id -> the newest that its agent said."""

    width: int
    now_s: float
    rows: int | None = None
    spin: int | None = None
    progress: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


def picture(view: WorkflowView, frame: Frame) -> RenderableType:
    """Headline, progress bar and DAG."""
    parts: list[RenderableType] = [headline(view, frame)]
    if view.intent:
        parts.append(Text(short(view.intent, frame.width - 2), style="dim"))
    if view.nodes:
        parts += [bar(view, frame), dag(view, frame)]
    elif not view.ended:
        parts.append(Text("Waiting for the plan …", style="dim"))
    return Group(*parts)


def headline(view: WorkflowView, frame: Frame) -> Text:
    """Blueprint, trace id, status, and how long it has been running."""
    look = looks.workflow(view.status)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{look.icon} {look.word}", style=look.style)
    line.append("  ")
    if view.blueprint:
        line.append(safe(view.blueprint), style="bold")
        line.append("  ")
    line.append(safe(view.trace_id), style="cyan")
    began = seconds_of(view.created_at)
    if began is not None:
        until = seconds_of(view.updated_at) if view.ended else frame.now_s
        line.append(f"  {duration((until or frame.now_s) - began)}", style="dim")
    return line


def bar(view: WorkflowView, frame: Frame) -> Text:
    """`━━━━━━╌╌╌╌ 3 of 5`, coloured by what became of the nodes; during a rollback what is undone."""
    states = [node["state"] for node in view.nodes.values()]
    cells = max(10, min(40, frame.width - 30))
    line = Text()
    left, total = cells, len(states)
    groups = (
        (looks.DONE - looks.UNDONE, "green"),
        (looks.UNDONE, "cyan"),
        (looks.ATTENTION, "yellow"),
        (looks.ACTIVE, "blue"),
    )
    for group, style in groups:
        count = sum(state in group for state in states)
        take = min(left, max(1, round(cells * count / total))) if count else 0
        line.append("━" * take, style=style)
        left -= take
    line.append("╌" * left, style="bright_black")
    undone = sum(state in looks.UNDONE for state in states)
    done = sum(state in looks.DONE for state in states)
    line.append(f" {undone} undone" if undone or view.status == "COMPENSATING" else f" {done} of {total}", style="dim")
    return line


def dag(view: WorkflowView, frame: Frame) -> RenderableType:
    """A line per node; where there is less room than nodes, those that matter, and counts for the others."""
    nodes = view.nodes
    rows = _rows(tuple((n["id"], tuple(n["depends_on"])) for n in nodes.values()))
    lines: list[Text | list[Text]] = []
    for row in _fitting(rows, nodes, frame.rows):
        if isinstance(row, Row):
            lines.append(_cells(row, nodes[row.node_id], frame))
        else:
            lines.append(Text(f"⋮ {row}", style="dim"))
    return Group(*_aligned(lines, frame))


def _aligned(lines: Sequence[Text | list[Text]], frame: Frame) -> list[Text]:
    columns = list(zip(*(line for line in lines if isinstance(line, list)), strict=True))
    widths = [max(cell.cell_len for cell in column) for column in columns]
    if widths:
        widths[_NAME] = min(widths[_NAME], _NAME_CELLS, max(8, frame.width // 3))
        widths[_AGENT] = min(widths[_AGENT], frame.width // 4)
    aligned: list[Text] = []
    for line in lines:
        if isinstance(line, Text):
            aligned.append(_cut(line, frame.width))
            continue
        whole = Text(no_wrap=True)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True)):
            if not width:
                continue
            fitted = _cut(cell, width)
            if i in _RIGHT:
                fitted.pad_left(width - fitted.cell_len)
            elif i < len(line) - 1:
                fitted.pad_right(width - fitted.cell_len)
            whole.append_text(fitted).append("  ")
        aligned.append(_cut(whole, frame.width))
    return aligned


def _cut(text: Text, width: int) -> Text:
    text.rstrip()
    text.truncate(width, overflow="ellipsis")
    return text


@lru_cache(maxsize=8)
def _rows(shape: tuple[tuple[str, tuple[str, ...]], ...]) -> list[Row]:
    return draw(dict(shape))


def _cells(row: Row, node: Mapping[str, Any], frame: Frame) -> list[Text]:
    state = node["state"]
    look = looks.node(state)
    spins = frame.spin is not None and state in ("IN_PROGRESS", "COMPENSATING")
    icon = looks.SPINNER[frame.spin % len(looks.SPINNER)] if spins and frame.spin is not None else look.icon
    gutter = Text(row.before, style="bright_black").append(icon, style=look.style)
    gutter.append(row.after, style="bright_black")
    who = f"{safe(node['agent'])}.{safe(node['action'])}" if frame.width >= _AGENT_FROM_CELLS else ""
    return [
        gutter,
        Text(safe(row.node_id), style="bold" if state in looks.ATTENTION else ""),
        Text(look.word, style=look.style),
        _attempts(node),
        Text(_took(node, frame.now_s), style="dim"),
        Text(who, style="dim"),
        # Without lanes (a number stands in the gutter) the dependencies are told in words.
        _note(node, frame, by_levels=row.before.strip().isdigit()),
    ]


def _attempts(node: Mapping[str, Any]) -> Text:
    if node["state"] in ("COMPENSATING", "COMPENSATION_FAILED") and node.get("undo_attempt"):
        return Text(f"undo {node['undo_attempt']}", style="magenta")
    if not node["attempt"]:
        return Text("")
    return Text(f"{node['attempt']}/{node['max_attempts']}", style="yellow" if node["attempt"] > 1 else "dim")


def _took(node: Mapping[str, Any], now_s: float) -> str:
    undoing = node["state"] in ("COMPENSATING", "COMPENSATED", "COMPENSATION_FAILED")
    began = seconds_of(node.get("undo_started_at" if undoing else "started_at"))
    if began is None:
        return ""
    ended = seconds_of(node.get("undo_finished_at" if undoing else "finished_at"))
    if ended is None and node["state"] not in looks.ACTIVE:
        return ""
    return duration((now_s if ended is None else ended) - began)


def _note(node: Mapping[str, Any], frame: Frame, *, by_levels: bool) -> Text:
    state, error = node["state"], node.get("undo_error") or node.get("error")
    said = frame.progress.get(node["id"])
    if state == "IN_PROGRESS" and said is not None:
        percent = said.get("percent")
        head = f"{percent:.0f} % " if isinstance(percent, int | float) else ""
        return Text(head + short(said.get("message") or "", 200), style="blue")
    if state == "RETRYING":
        due = seconds_of(node.get("retry_at"))
        wait = f"again in {duration(due - frame.now_s)}" if due is not None and due > frame.now_s else "again now"
        return Text(f"{wait}: {safe(error['code'])}" if error else wait, style="yellow")
    if error and state in (*looks.ATTENTION, "COMPENSATING"):
        return Text(f"{safe(error['code'])}: {short(error['message'], 300)}", style="red")
    if state == "COMPLETE" and node.get("output") is not None:
        return Text(short(compact(node["output"]), 300), style="bright_black")
    if state == "PENDING" and node["depends_on"] and by_levels:
        return Text("after " + short(", ".join(node["depends_on"]), 200), style="bright_black")
    return Text("")


def _weight(state: str) -> int:
    if state in looks.ATTENTION:
        return 0
    if state in looks.ACTIVE:
        return 1
    return 2 if state not in looks.DONE else 3


def _fitting(rows: Sequence[Row], nodes: Mapping[str, Mapping[str, Any]], most: int | None) -> list[Row | str]:
    if most is None or len(rows) <= most:
        return list(rows)
    by_weight = sorted(range(len(rows)), key=lambda i: (_weight(nodes[rows[i].node_id]["state"]), i))
    keep = max(1, most - 1)
    while True:
        fitted = _with_counts(rows, nodes, set(by_weight[:keep]))
        if len(fitted) <= max(most, 2) or keep == 1:
            return fitted
        keep = max(1, keep - max(1, (len(fitted) - most) // 2))


def _with_counts(rows: Sequence[Row], nodes: Mapping[str, Mapping[str, Any]], kept: set[int]) -> list[Row | str]:
    fitted: list[Row | str] = []
    hidden: Counter[str] = Counter()
    for i, row in enumerate(rows):
        if i in kept:
            if hidden:
                fitted.append(_counted(hidden))
                hidden = Counter()
            fitted.append(row)
        else:
            hidden[looks.node(nodes[row.node_id]["state"]).word.lower()] += 1
    if hidden:
        fitted.append(_counted(hidden))
    return fitted


def _counted(hidden: Counter[str]) -> str:
    told = [f"{count} {word}" for word, count in hidden.most_common(3)]
    others = hidden.total() - sum(count for _, count in hidden.most_common(3))
    return ", ".join([*told, f"{others} others"] if others else told)
