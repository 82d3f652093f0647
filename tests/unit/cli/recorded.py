"""Recorded workflows for pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from handrail_contracts.view import WorkflowView

FOLDER = Path(__file__).parents[2] / "contracts" / "recordings"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def events(name: str) -> list[dict[str, Any]]:
    """Every event of a recording."""
    return [json.loads(text) for text in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def view(name: str, upto: int | None = None) -> WorkflowView:
    """The view after the first `upto` events."""
    told = events(name)
    return WorkflowView(told[0]["trace_id"]).apply_all(told[:upto])


def drawn(what: RenderableType, width: int) -> list[str]:
    """What a terminal of that width shows, line by line, without colours."""
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False, markup=False)
    console.print(what)
    return [line.rstrip() for line in console.export_text().split("\n")]
