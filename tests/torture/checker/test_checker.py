"""A checker that cannot fail proves nothing: each invariant is broken by a doctored history, and found by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from handrail_contracts.topics import RESULTS
from tests.torture.checker.history import Accepted, Commit, Decision, Effect, Entry, History
from tests.torture.checker.invariants import INVARIANTS, check
from tests.torture.sim.simulation import simulate

Doctor = Callable[[History], None]


@cache
def _seed() -> int:
    """One that has everything: decisions, undone effects, several workflows."""
    for seed in range(1, 400):
        h = simulate(seed).history
        undone = any(e.undone for e in h.effects)
        kept = any(e.kind == "do" and not e.undone for e in h.effects)
        decided = any(d.outcome == "decided" for d in h.decisions)
        if undone and kept and decided and len(h.workflows) >= 3 and not h.adopted:
            return seed
    raise AssertionError("no seed has everything")


def history() -> History:
    return simulate(_seed()).history


def _kept(h: History) -> Effect:
    """An effect of a node that an agent's answer completed and nothing has touched since, in a workflow that completed."""
    last = {(r.trace_id, r.data["node_id"]): r.data["to"] for r in h.journal if r.type == "NODE_STATE_CHANGED"}
    done = {node for node, to in last.items() if to == "COMPLETE"}
    ended = {w.trace_id for w in h.workflows if w.status.startswith("COMPLETED")}
    return next(
        e
        for e in h.effects
        if e.kind == "do" and not e.undone and (e.trace_id, e.node_id) in done and e.trace_id in ended
    )


def _swap(h: History, old: Any, new: Any) -> None:
    for rows in (h.journal, h.effects, h.partitions, h.workflows, h.pauses, h.decisions, h.commands):
        if old in rows:
            rows[rows.index(old)] = new  # type: ignore[call-overload]
            return
    raise AssertionError("nothing to doctor")


def _row(h: History, what: Callable[[Entry], bool]) -> Entry:
    return next(r for r in h.journal if what(r))


def accepted_and_gone(h: History) -> None:
    h.accepted.append(Accepted("start", "vanished"))


def decision_lost(h: History) -> None:
    h.decisions.remove(next(d for d in h.decisions if d.outcome == "decided"))


def command_not_applied(h: History) -> None:
    _swap(h, h.commands[0], replace(h.commands[0], applied=False))


def effect_twice(h: History) -> None:
    h.effects.append(_kept(h))


def effect_missing(h: History) -> None:
    h.effects.remove(_kept(h))


def effect_nobody_ordered(h: History) -> None:
    h.effects.append(replace(_kept(h), effect_key="from/nowhere"))


def summary_lies(h: History) -> None:
    _swap(h, h.workflows[0], replace(h.workflows[0], status="RUNNING"))


def cache_lies(h: History) -> None:
    h.cached.append((h.journal[0].trace_id, 1, {"status": "odd"}))


def seq_hole(h: History) -> None:
    h.journal.remove(_row(h, lambda r: r.seq == 2))


def seq_hole_below_what_an_owner_holds(h: History) -> None:
    seq_hole(h)
    newest = _row(h, lambda r: r.seq == 3)
    h.cached.append((newest.trace_id, 3, {}))


def pseq_twice(h: History) -> None:
    last = max(h.journal, key=lambda r: (r.p, r.pseq))
    _swap(h, last, replace(last, pseq=last.pseq - 1))


def never_published(h: History) -> None:
    assert h.events
    h.events = [e for e in h.events if (e.trace_id, e.seq) != (h.journal[-1].trace_id, h.journal[-1].seq)]


def published_too_soon(h: History) -> None:
    assert h.events
    last = h.events[-1]
    h.events.append(replace(last, seq=last.seq + 1_000))


def published_otherwise(h: History) -> None:
    assert h.events
    h.events[0] = replace(h.events[0], data={**h.events[0].data, "at": "never"})


def zombie_writes(h: History) -> None:
    assert h.commits is not None
    h.commits.append(Commit(0, 1, 2))


def stale_attempt(h: History) -> None:
    r = _row(
        h, lambda r: r.type == "NODE_STATE_CHANGED" and r.data["from"] == "SCHEDULED" and r.data["to"] == "COMPLETE"
    )
    _swap(h, r, replace(r, data={**r.data, "attempt": 99}))


def stale_pause(h: History) -> None:
    r = _row(h, lambda r: r.type == "HITL_RESOLVED")
    _swap(h, r, replace(r, data={**r.data, "pause_id": "another"}))


def decided_otherwise(h: History) -> None:
    d = next(d for d in h.decisions if d.outcome == "decided")
    _swap(h, d, replace(d, action_id="RES_OTHER"))


def decided_twice(h: History) -> None:
    d = next(d for d in h.decisions if d.outcome == "decided")
    h.decisions.append(Decision(d.pause_id, d.trace_id, "decided", "RES_OTHER", True))


def after_the_end(h: History) -> None:
    last = h.journal[-1]
    rows = [r for r in h.journal if r.trace_id == last.trace_id]
    end = rows[-1]
    h.journal.append(replace(rows[2], seq=end.seq + 1, pseq=max(r.pseq for r in h.journal if r.p == end.p) + 1))


def undone_and_back(h: History) -> None:
    done = next(e for e in h.effects if e.undone)
    _swap(h, done, replace(done, undone=False))
    h.effects[:] = [e for e in h.effects if not (e.kind == "undo" and e.node_id == done.node_id)]


def undo_out_of_order(h: History) -> None:
    """The announced order is turned round, so that what happened contradicts it."""
    r = _row(h, lambda r: r.type == "WORKFLOW_COMPENSATING" and len(r.data["nodes"]) > 1)
    begun = [
        x.data["node_id"]
        for x in h.journal
        if x.trace_id == r.trace_id and x.type == "NODE_STATE_CHANGED" and x.data["to"] == "COMPENSATING"
    ]
    nodes = [{**n, "depends_on": [x for x in dict.fromkeys(begun) if x != n["node_id"]]} for n in r.data["nodes"]]
    _swap(h, r, replace(r, data={**r.data, "nodes": nodes}))


def part_left_as_it_was(h: History) -> None:
    """A rollback of a part is over, and one of its undos never was."""
    _leave(h, frozenset({"COMPLETE"}))


def part_left_in_doubt(h: History) -> None:
    """The same, of an attempt that nobody knows the end of."""
    _leave(h, frozenset({"CANCELLED", "SKIPPED"}))


def _leave(h: History, before: frozenset[str]) -> None:
    """Takes the undo of a node, which stood as `before` says, out of a rollback of a part, and all that came after it."""
    overs = [r for r in h.journal if r.type == "WORKFLOW_RESUMED" and (r.meta or {}).get("rolled_back")]
    over, node_id = next(
        (over, r.data["node_id"])
        for over in overs
        for r in h.journal
        if r.trace_id == over.trace_id and r.seq < over.seq
        if r.data.get("to") == "COMPENSATING" and r.data["from"] in before
    )
    for r in [r for r in h.journal if r.trace_id == over.trace_id]:
        if r.seq > over.seq:
            h.journal.remove(r)
        elif r.data.get("node_id") == node_id and "COMPENSATING" in (r.data.get("from"), r.data.get("to")):
            _swap(h, r, replace(r, type="MESSAGE_ADDED", data={**r.data, "pause_id": "another"}))


def nothing_wakes_it(h: History) -> None:
    h.quiet = False
    for x in list(h.partitions):
        _swap(h, x, replace(x, published_upto=x.next_pseq - 1))
    _swap(h, h.workflows[0], replace(h.workflows[0], ended=False, wake=False))


def never_ends(h: History) -> None:
    _swap(h, h.workflows[0], replace(h.workflows[0], ended=False))


def offset_behind(h: History) -> None:
    x = next(x for x in h.partitions if x.offsets.get(RESULTS, (0, None))[0])
    _swap(h, x, replace(x, offsets={**x.offsets, RESULTS: (0, None)}))


def offset_never_stored(h: History) -> None:
    x = next(x for x in h.partitions if x.offsets.get(RESULTS, (0, None))[0])
    _swap(h, x, replace(x, offsets={}))


def offset_beyond(h: History) -> None:
    x = h.partitions[0]
    _swap(h, x, replace(x, offsets={**x.offsets, RESULTS: (10_000, None)}))


def state_without_offset(h: History) -> None:
    h.torn.append("attempt 1 answered ok, and it still waits")


def pseq_runs_ahead(h: History) -> None:
    _swap(h, h.partitions[0], replace(h.partitions[0], next_pseq=h.partitions[0].next_pseq + 1))


def too_large(h: History) -> None:
    _swap(h, h.journal[0], replace(h.journal[0], data={**h.journal[0].data, "blob": "x" * 300_000}))


def one_attempt_too_many(h: History) -> None:
    r = _row(h, lambda r: r.type == "NODE_STATE_CHANGED" and r.data["to"] == "SCHEDULED")
    _swap(h, r, replace(r, data={**r.data, "attempt": 9, "max_attempts": 3}))


def queue_is_left(h: History) -> None:
    h.queues["publisher"] = 3


def idle(h: History) -> None:
    h.least_ended = 1_000


def fault_never_struck(h: History) -> None:
    h.expected_faults = frozenset({"asteroid"})


def _answer(h: History, action_id: str) -> Entry:
    """Where a person answered a gate so, and its node then ran."""
    return _row(
        h, lambda r: r.type == "HITL_RESOLVED" and r.data["action_id"] == action_id and r.data["node_id"] is not None
    )


def approved_by_nobody(h: History) -> None:
    r = _answer(h, "RES_APPROVE")
    _swap(h, r, replace(r, data={**r.data, "action_id": "RES_LOOK"}))


def refused_and_sent(h: History) -> None:
    r = _answer(h, "RES_APPROVE")
    _swap(h, r, replace(r, data={**r.data, "action_id": "RES_REJECT"}))


def done_with_other_arguments(h: History) -> None:
    e = next(e for e in h.effects if isinstance(e.answer, dict) and e.answer.get("action") == "transfer")
    _swap(h, e, replace(e, answer={**e.answer, "args": {"amount": 77}}))


def done_against_a_standing_rule(h: History) -> None:
    e = next(e for e in h.effects if isinstance(e.answer, dict) and e.answer.get("action") == "transfer")
    above = e.answer["args"]["amount"] - 1
    h.standing = [
        {"id": "no", "match": {"action": "transfer", "args.amount": {"gt": above}}, "decide": "forbid"},
    ]


def keyless_twice(h: History) -> None:
    h.effects.append(next(e for e in h.effects if e.keyless and e.kind == "do"))


DOCTORED: dict[Doctor, str] = {
    accepted_and_gone: "I1",
    decision_lost: "I1",
    command_not_applied: "I1",
    effect_twice: "I2",
    effect_missing: "I2",
    keyless_twice: "I2",
    effect_nobody_ordered: "I2",
    summary_lies: "I3",
    cache_lies: "I3",
    seq_hole: "I4",
    seq_hole_below_what_an_owner_holds: "I4",
    pseq_twice: "I4",
    never_published: "I4",
    published_too_soon: "I4",
    published_otherwise: "I4",
    zombie_writes: "I5",
    stale_attempt: "I5",
    stale_pause: "I5",
    decided_otherwise: "I6",
    decided_twice: "I6",
    after_the_end: "I7",
    undone_and_back: "I8",
    undo_out_of_order: "I8",
    part_left_as_it_was: "I8",
    part_left_in_doubt: "I8",
    nothing_wakes_it: "I9",
    never_ends: "I9",
    offset_behind: "I10",
    offset_never_stored: "I10",
    offset_beyond: "I10",
    state_without_offset: "I10",
    pseq_runs_ahead: "I10",
    too_large: "I13",
    one_attempt_too_many: "I13",
    queue_is_left: "I13",
    idle: "I16",
    fault_never_struck: "I16",
    approved_by_nobody: "I17",
    refused_and_sent: "I17",
    done_with_other_arguments: "I17",
    done_against_a_standing_rule: "I17",
}


def test_every_invariant_is_broken_by_some_doctored_history() -> None:
    assert set(DOCTORED.values()) == set(INVARIANTS)


def test_an_honest_history_breaks_nothing() -> None:
    assert check(history()) == []


@pytest.mark.parametrize(("doctor", "invariant"), DOCTORED.items(), ids=[d.__name__ for d in DOCTORED])
def test_a_doctored_history_is_found_out(doctor: Doctor, invariant: str) -> None:
    for h in _histories():
        try:
            doctor(h)
        except StopIteration:
            continue  # this one has no such row
        assert invariant in {v.invariant for v in check(h)}
        return
    pytest.fail(f"{doctor.__name__} was not found out by {invariant}")


def _histories() -> Iterator[History]:
    yield history()
    for seed in range(1, 1_500):  # as far as it takes
        if seed != _seed():
            yield simulate(seed).history
