"""Old journals replay: every journal ever recorded here folds, today, to the state that it folded to then.

The files are never edited, only added to (`journal_stories.py`): their own digests stand beside those of their states.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from contracts.journal_stories import HERE, digest, projection, read
from handrail_contracts.events import EVENTS
from handrail_engine.decide import decide, renew
from handrail_engine.evolve import fold
from handrail_engine.inputs import Now, Wake

DIGESTS: dict[str, dict[str, str]] = json.loads((HERE / "digests.json").read_text())
JOURNALS = sorted(HERE.glob("*.jsonl"))


def test_every_journal_has_a_digest_and_there_are_enough() -> None:
    assert {p.stem for p in JOURNALS} == set(DIGESTS)
    assert len(JOURNALS) >= 20


@pytest.mark.parametrize("path", JOURNALS, ids=lambda p: p.stem)
def test_a_golden_journal_is_never_edited(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DIGESTS[path.stem]["file"]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda p: p.stem)
def test_a_golden_journal_folds_to_the_state_of_its_day(path: Path) -> None:
    rows = read(path)
    assert digest(rows) == DIGESTS[path.stem]["state"], projection(rows)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda p: p.stem)
def test_its_events_still_have_the_shape_of_the_contract(path: Path) -> None:
    for row in read(path):
        EVENTS[row.type].model_validate(row.data)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda p: p.stem)
def test_a_workflow_of_old_can_go_on_today(path: Path) -> None:
    """Cut off between two turns, the journal gives a state that today's rules can take up."""
    rows = read(path)
    between = [i for i in range(1, len(rows)) if rows[i - 1].at_ms != rows[i].at_ms]
    for cut in [*between, len(rows)]:
        s = fold("t", "w", rows[:cut])
        now = Now(rows[cut - 1].at_ms + 1_000)
        renew(s, now)
        if not s.ended:
            decide(s, Wake(), now)
            assert s.pauses or s.next_wake() is not None
