"""What may be acknowledged: nothing before it was handed off, nothing out of order, nothing lost to a crash."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail_agents.drivers.acks import Acks
from handrail_runtime.ports import Record


def record(offset: int, partition: int = 0) -> Record:
    return Record("t", partition, offset, None, None, (), 0)


def test_nothing_is_acknowledged_before_it_was_handed_off() -> None:
    acks = Acks()
    acks.note(record(5))
    assert acks.positions() == {}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_position_never_passes_a_record_that_still_waits(order: tuple[int, ...]) -> None:
    acks = Acks()
    marks = [acks.note(record(10 + i)) for i in range(4)]
    taken: set[int] = set()
    position = 10
    for i in order:
        marks[i]()
        taken.add(i)
        position = acks.positions().get(("t", 0), position)
        first_waiting = next((n for n in range(4) if n not in taken), 4)
        assert position == 10 + first_waiting


def test_partitions_move_on_their_own_and_are_told_once() -> None:
    acks = Acks()
    slow, fast = acks.note(record(1, 0)), acks.note(record(7, 1))
    fast()
    assert acks.positions() == {("t", 1): 8}
    assert acks.positions() == {}
    slow()
    assert acks.positions() == {("t", 0): 2}


def test_handing_off_twice_counts_once() -> None:
    acks = Acks()
    first, second = acks.note(record(1)), acks.note(record(2))
    first()
    first()
    assert acks.positions() == {("t", 0): 2}
    second()
    assert acks.positions() == {("t", 0): 3}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30, unique=True).map(sorted), st.randoms())
def test_holes_in_the_offsets_hold_nothing_up(offsets: list[int], random: object) -> None:
    acks = Acks()
    marks = [acks.note(record(o)) for o in offsets]
    random.shuffle(marks)  # type: ignore[attr-defined]  # hypothesis' own Random
    for mark in marks:
        mark()
    assert acks.positions() == {("t", 0): offsets[-1] + 1}
