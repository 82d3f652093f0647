"""What one batch is about."""

from __future__ import annotations

from handrail_engine.inputs import Wake
from handrail_orchestrator.application.work import Item, Work


def test_a_part_has_its_workflows_in_the_order_in_which_they_came() -> None:
    """By a set's order it would be another one in each process, and with it the order of rows and messages."""
    work, names = Work(), [f"t{i}" for i in range(50)]
    for name in names:
        work.add(name, 0, Item(Wake()))
    part = work.only(set(names[10:40]), with_offsets=False)
    assert list(part.items) == names[10:40]
    assert part.count == 30
