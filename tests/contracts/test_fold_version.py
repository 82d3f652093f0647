"""A snapshot holds what rows were folded to: when a fold gives something else, `FOLD_VERSION` must grow, so that no owner
takes up a snapshot that it would not have made.

`folds/<version>.json` says what each golden journal folds to in that version. It is written once, by
`python -m contracts.test_fold_version` (in tests/), and never edited.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from contracts.journal_stories import HERE, read
from handrail_engine.evolve import fold
from handrail_engine.snapshot import freeze, thaw
from handrail_engine.state import FOLD_VERSION, Ending, NodeState, PauseState, Row, Undo, WorkflowState

FOLDS = Path(__file__).parent / "folds" / f"{FOLD_VERSION}.json"
KNOWN: dict[str, Any] = json.loads(FOLDS.read_text()) if FOLDS.exists() else {}
JOURNALS = {p.stem: p for p in sorted(HERE.glob("*.jsonl"))}
AGAIN = (
    "What is folded has changed: FOLD_VERSION must grow, and `python -m contracts.test_fold_version` writes its file."
)


def shape() -> dict[str, list[str]]:
    return {c.__name__: [f.name for f in fields(c)] for c in (WorkflowState, NodeState, Undo, PauseState, Ending)}


def cuts(rows: list[Row]) -> list[int]:
    """Where a journal is cut: after its first row, and at up to eleven places spread over it."""
    return sorted({1, *range(len(rows), 0, -max(1, len(rows) // 10))})


def folded(name: str) -> str:
    """A digest over what a golden journal folds to, here and there on its way and at its end."""
    rows = read(JOURNALS[name])
    states = [freeze(fold("t", "w", rows[:cut])) for cut in cuts(rows)]
    return hashlib.sha256(json.dumps(states, sort_keys=True).encode()).hexdigest()


def test_a_state_with_other_fields_has_another_fold_version() -> None:
    assert KNOWN["fields"] == shape(), AGAIN


@pytest.mark.parametrize("name", JOURNALS)
def test_a_fold_that_gives_something_else_has_another_version(name: str) -> None:
    if name in KNOWN["journals"]:  # one that was recorded later says nothing of this version
        assert KNOWN["journals"][name] == folded(name), AGAIN


@pytest.mark.parametrize("name", JOURNALS)
def test_a_golden_journal_from_any_snapshot_on_is_the_whole(name: str) -> None:
    rows = read(JOURNALS[name])
    whole = json.dumps(freeze(fold("t", "w", rows)))
    for cut in cuts(rows):
        written = json.dumps(freeze(fold("t", "w", rows[:cut])))
        rest = fold("t", "w", rows[cut:], onto=thaw("t", "w", json.loads(written)))
        assert json.dumps(freeze(rest)) == whole, cut


if __name__ == "__main__":
    FOLDS.parent.mkdir(exist_ok=True)
    with FOLDS.open("x", encoding="utf-8") as out:
        json.dump({"fields": shape(), "journals": {name: folded(name) for name in JOURNALS}}, out, indent=1)
        out.write("\n")
