"""The invariants of RELIABILITY, each a function over a History that yields what breaks it.

I1 accepted is kept · I2 no effect twice · I3 states are folds · I4 dense and published · I5 nothing stale · I6 one decision
a pause · I7 terminal is terminal · I8 effects are kept, undone or shown, undone in order · I9 something will wake it ·
I10 offsets move with state · I13 bounded · I16 the run was not idle. Beside RELIABILITY's list: I17 what is guarded happens
only as it was decided.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import partition
from handrail_contracts.plan import EffectClass
from handrail_contracts.view import WorkflowView
from handrail_engine.evolve import fold
from handrail_engine.state import NodeState, Row, WorkflowState
from tests.torture.checker import gates
from tests.torture.checker.history import Decision, Effect, Entry, History

LARGEST_EVENT_BYTES = 256 * 1024
_ENDS = {f"WORKFLOW_{word}" for word in ("COMPLETED", "COMPENSATED", "COMPENSATION_INCOMPLETE", "FAILED", "CANCELLED")}
_OUT = ("SCHEDULED", "IN_PROGRESS")
_ACTS = {("simulator", "script"), ("teller", "pay")}  # each writes into the ledger when it ends well


@dataclass(frozen=True, slots=True)
class Violation:
    """What does not hold, and where."""

    invariant: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.where}: {self.text}"


class Case:
    """A history with what every invariant looks up."""

    def __init__(self, h: History) -> None:
        self.h = h
        self.rows: dict[str, list[Entry]] = defaultdict(list)
        for e in sorted(h.journal, key=lambda e: (e.trace_id, e.seq)):
            self.rows[e.trace_id].append(e)
        self.parked = {w.trace_id for w in h.workflows if w.parked}
        self.unfoldable: list[tuple[str, str]] = []

    @cached_property
    def states(self) -> dict[str, WorkflowState]:
        found: dict[str, WorkflowState] = {}
        for trace_id, rows in self.rows.items():
            try:
                found[trace_id] = self.folded(rows)
            except Exception as e:  # noqa: BLE001  a journal that does not fold is a finding
                self.unfoldable.append((trace_id, f"{type(e).__name__}: {e}"))
        return found

    def folded(self, rows: list[Entry]) -> WorkflowState:
        return fold(self.h.tenant, rows[0].trace_id, (Row(r.seq, r.type, r.data, r.meta, r.at_ms) for r in rows))

    @cached_property
    def effects(self) -> dict[tuple[str, str], list[Effect]]:
        found: dict[tuple[str, str], list[Effect]] = defaultdict(list)
        for e in self.h.effects:
            found[e.trace_id, e.node_id].append(e)
        return found

    def effect_class(self, key: str) -> EffectClass | None:
        """Of the node whose effect key this is."""
        e = self._by_key.get(key)
        s = self.states.get(e.trace_id) if e is not None else None
        return (
            s.nodes[e.node_id].spec.effect_class if e is not None and s is not None and e.node_id in s.nodes else None
        )

    @cached_property
    def _by_key(self) -> dict[str, Effect]:
        return {e.effect_key: e for e in self.h.effects}

    def standing(self, trace_id: str, node_id: str) -> list[Effect]:
        return [e for e in self.effects.get((trace_id, node_id), ()) if e.kind == "do" and not e.undone]


Invariant = Callable[[Case], Iterator[Violation]]
INVARIANTS: dict[str, Invariant] = {}


def _invariant(name: str) -> Callable[[Invariant], Invariant]:
    def register(f: Invariant) -> Invariant:
        INVARIANTS[name] = f
        return f

    return register


def check(history: History) -> list[Violation]:
    """Everything that does not hold, in the order of the invariants."""
    case = Case(history)
    return [v for f in INVARIANTS.values() for v in f(case)]


def judge(history: History) -> None:
    """Raises AssertionError that lists what does not hold."""
    found = check(history)
    assert not found, f"{len(found)} violations:\n" + "\n".join(map(str, found[:20]))


@_invariant("I1")
def accepted_is_kept(c: Case) -> Iterator[Violation]:
    h = c.h
    starts = {x.trace_id for x in h.commands if x.kind == "start"}
    ids = {x.command_id for x in h.commands}
    decided = {(d.pause_id, d.action_id) for d in h.decisions if d.outcome in ("decided", "superseded")}
    for a in h.accepted:
        if a.kind == "start" and a.trace_id not in starts:
            yield Violation("I1", a.trace_id, "its start was accepted and has no command row")
        if a.kind == "decide" and (a.pause_id, a.action_id) not in decided:
            yield Violation("I1", a.trace_id, f"{a.action_id} on {a.pause_id} was accepted and has no decision row")
        if a.command_id is not None and a.command_id not in ids:
            yield Violation("I1", a.trace_id, f"the accepted {a.kind} {a.command_id} has no command row")
    if not h.quiet:
        return
    for x in h.commands:
        if not x.applied and x.trace_id not in c.parked:
            yield Violation("I1", x.trace_id, f"the command {x.command_id} ({x.kind}) was never applied")
        if x.kind == "start" and x.trace_id not in c.rows and x.trace_id not in c.parked:
            yield Violation("I1", x.trace_id, "its start was accepted and its journal is empty")


@_invariant("I2")
def no_effect_twice(c: Case) -> Iterator[Violation]:
    times = Counter((e.effect_key, e.kind) for e in c.h.effects if not e.keyless)
    for (key, kind), n in times.items():
        if n > 1:
            yield Violation("I2", key, f"{kind} happened {n} times")
    for (key, kind), n in Counter((e.effect_key, e.kind) for e in c.h.effects if e.keyless).items():
        if n > 1 and kind == "do" and c.effect_class(key) is EffectClass.UNSAFE:
            yield Violation("I2", key, f"nobody's key protects it, and it happened {n} times")
    ordered = {(r.trace_id, (r.meta or {}).get("key")) for r in c.h.journal}
    for (trace_id, node_id), effects in c.effects.items():
        for e in effects:
            if e.kind == "do" and (trace_id, e.effect_key) not in ordered:
                yield Violation("I2", e.effect_key, "it happened and the journal never ordered it")
        pure = c.effect_class(effects[0].effect_key) is EffectClass.PURE  # declared to have none
        if len(c.standing(trace_id, node_id)) > 1 and not pure and not any(e.keyless for e in effects):
            yield Violation("I2", f"{trace_id}/{node_id}", "several effects of one node stand")
    for trace_id, s in c.states.items():
        for node_id in _done(c.rows[trace_id], s):
            node = s.nodes[node_id]
            acts = (node.spec.agent, node.spec.action) in _ACTS
            acts = acts and node.spec.effect_class is not EffectClass.PURE
            if acts and node.state == "COMPLETE" and not c.standing(trace_id, node_id):
                yield Violation("I2", f"{trace_id}/{node_id}", "it is COMPLETE and its effect does not stand")


def _done(rows: list[Entry], s: WorkflowState) -> set[str]:
    """Nodes that an agent's own answer completed."""
    done: set[str] = set()
    for r in rows:
        if r.type == "NODE_STATE_CHANGED":
            done.discard(r.data["node_id"])
            if r.data["from"] in _OUT and r.data["to"] == "COMPLETE":
                done.add(r.data["node_id"])
    return done & set(s.nodes)


@_invariant("I3")
def states_are_folds(c: Case) -> Iterator[Violation]:
    states = c.states
    for trace_id, why in c.unfoldable:
        yield Violation("I3", trace_id, f"its journal does not fold: {why}")
    summaries = {w.trace_id: w for w in c.h.workflows}
    for trace_id, s in states.items():
        view = WorkflowView(trace_id)
        view.apply_all(r.data for r in c.rows[trace_id])
        if view.status != s.status.value:
            yield Violation("I3", trace_id, f"the view says {view.status}, the fold {s.status.value}")
        w = summaries.get(trace_id)
        if w is None:
            yield Violation("I3", trace_id, "it has a journal and no summary")
        elif w.status != s.status.value or w.ended != s.ended or w.seq > s.seq:
            yield Violation("I3", trace_id, f"the summary says {w.status} at {w.seq}, the fold {s.status.value}")
    for trace_id, seq, facts in c.h.cached:
        rows = [r for r in c.rows.get(trace_id, []) if r.seq <= seq]
        if not rows or rows[-1].seq != seq:
            yield Violation("I3", trace_id, f"an owner holds a state at {seq}, which is not in the journal")
        elif trace_id in states and _plain(c.folded(rows).facts()) != _plain(facts):
            yield Violation("I3", trace_id, f"an owner's state at {seq} is not the fold of the journal")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))


@_invariant("I4")
def dense_and_published(c: Case) -> Iterator[Violation]:
    for trace_id, rows in c.rows.items():
        if [r.seq for r in rows] != list(range(1, len(rows) + 1)):
            yield Violation("I4", trace_id, f"seqs are not dense: {_gap([r.seq for r in rows])}")
        if [r.pseq for r in rows] != sorted(r.pseq for r in rows):
            yield Violation("I4", trace_id, "its pseqs do not rise with its seqs")
    by_p: dict[int, list[int]] = defaultdict(list)
    for r in c.h.journal:
        by_p[r.p].append(r.pseq)
    for p, pseqs in by_p.items():
        if sorted(pseqs) != list(range(1, len(pseqs) + 1)):
            yield Violation("I4", f"partition {p}", f"pseqs are not dense: {_gap(sorted(pseqs))}")
    if c.h.events is not None:
        yield from _published(c)


def _gap(numbers: list[int]) -> str:
    return next((f"{n} where {i} is due" for i, n in enumerate(numbers, 1) if n != i), "none")


def _published(c: Case) -> Iterator[Violation]:
    upto = {x.p: x.published_upto for x in c.h.partitions}
    journal = {(r.trace_id, r.seq): r for r in c.h.journal}
    highest: dict[str, int] = defaultdict(int)
    seen: set[tuple[str, int]] = set()
    for e in c.h.events or ():
        row = journal.get((e.trace_id, e.seq))
        if row is None:
            yield Violation("I4", e.trace_id, f"event {e.seq} was published and is not in the journal")
            continue
        if row.data != e.data:
            yield Violation("I4", e.trace_id, f"event {e.seq} was published with other content")
        if row.p != e.partition:
            yield Violation("I4", e.trace_id, f"event {e.seq} lies in partition {e.partition}, not {row.p}")
        if not c.h.adopted and (e.trace_id, e.seq) not in seen and e.seq > highest[e.trace_id] + 1:
            yield Violation("I4", e.trace_id, f"event {e.seq} was published before {highest[e.trace_id] + 1}")
        highest[e.trace_id] = max(highest[e.trace_id], e.seq)
        seen.add((e.trace_id, e.seq))
    for r in c.h.journal:
        if (r.trace_id, r.seq) not in seen and (c.h.quiet or r.pseq <= upto.get(r.p, 0)):
            yield Violation("I4", r.trace_id, f"event {r.seq} was never published")


@_invariant("I5")
def nothing_stale(c: Case) -> Iterator[Violation]:
    for x in c.h.commits or ():
        if x.epoch != x.stood:
            yield Violation("I5", f"partition {x.p}", f"epoch {x.epoch} wrote while epoch {x.stood} owned it")
    for trace_id, rows in c.rows.items():
        out: dict[str, int] = {}
        open_: set[str] = set()
        for r in rows:
            d = r.data
            if r.type == "WORKFLOW_PAUSED_HITL":
                open_.add(d["pause_id"])
            elif r.type == "HITL_RESOLVED":
                if d["pause_id"] not in open_:
                    yield Violation("I5", trace_id, f"row {r.seq} closes {d['pause_id']}, which is not open")
                open_.discard(d["pause_id"])
            elif r.type == "NODE_STATE_CHANGED":
                if d["from"] in _OUT and d["attempt"] != out.get(d["node_id"]):
                    yield Violation("I5", trace_id, f"row {r.seq} is caused by attempt {d['attempt']}, which is over")
                if d["to"] == "SCHEDULED":
                    out[d["node_id"]] = d["attempt"]
        if rows and rows[0].p != partition(c.h.tenant, trace_id, len(c.h.partitions) or rows[0].p + 1):
            yield Violation("I5", trace_id, f"its rows lie in partition {rows[0].p}, which is another workflow's")


@_invariant("I6")
def one_decision_a_pause(c: Case) -> Iterator[Violation]:
    decisions: dict[str, list[Decision]] = defaultdict(list)
    for d in c.h.decisions:
        decisions[d.pause_id].append(d)
    closed: dict[str, list[Entry]] = defaultdict(list)
    for r in c.h.journal:
        if r.type == "HITL_RESOLVED":
            closed[r.data["pause_id"]].append(r)
    for pause_id, rows in closed.items():
        if len(rows) > 1:
            yield Violation("I6", pause_id, f"it was closed {len(rows)} times")
        mine = decisions.get(pause_id, [])
        if len(mine) != 1:
            yield Violation("I6", pause_id, f"it was closed and has {len(mine)} decisions")
        elif not _same(mine[0], rows[0].data) or not mine[0].applied:
            told = f"{mine[0].outcome} {mine[0].action_id}"
            yield Violation("I6", pause_id, f"the decision says {told}, the journal {_outcome(rows[0].data)}")
    for pause_id, found in decisions.items():
        if c.h.quiet and pause_id not in closed and found[0].trace_id not in c.parked:
            yield Violation("I6", pause_id, "it was decided and the decision was never applied")
    for p in c.h.pauses:
        if (p.state == "open") == (p.pause_id in closed):
            yield Violation("I6", p.pause_id, f"its row says {p.state}, the journal otherwise")


def _same(decision: Decision, row: dict[str, Any]) -> bool:
    chosen = row["action_id"] is None or decision.action_id == row["action_id"]
    return decision.outcome == row["outcome"] and chosen


def _outcome(row: dict[str, Any]) -> str:
    return f"{row['outcome']} {row['action_id']}"


@_invariant("I7")
def terminal_is_terminal(c: Case) -> Iterator[Violation]:
    for trace_id, rows in c.rows.items():
        for r in rows[:-1]:
            if r.type in _ENDS:
                yield Violation("I7", trace_id, f"row {r.seq} is {r.type} and more follows")
                break


@_invariant("I8")
def effects_are_accounted_for(c: Case) -> Iterator[Violation]:
    shown = {(x.trace_id, x.node_id) for x in c.h.letters if x.kind == "late_effect"}
    for trace_id, s in c.states.items():
        yield from _undo_order(trace_id, c.rows[trace_id])
        yield from _parts_undone(c, trace_id, c.rows[trace_id])
        if not s.ended:
            continue
        for node_id, node in s.nodes.items():
            if node.spec.effect_class is EffectClass.PURE:
                continue  # declared to have none
            for e in c.standing(trace_id, node_id):
                if (trace_id, node_id) in shown or (e.keyless and node.spec.effect_class is not EffectClass.UNSAFE):
                    continue
                if e.effect_key != s.do_key(node):
                    yield Violation("I8", e.effect_key, "it stands, is of an old generation, and on no list")
                elif not _known(s, node):
                    yield Violation("I8", e.effect_key, f"it stands; node {node.state.value}, {s.status.value}")


def _known(s: WorkflowState, node: NodeState) -> bool:
    if node.spec.undoing is None or node.state.value in ("COMPENSATION_FAILED", "NOT_REVERSIBLE"):
        return True
    if node.state.value == "COMPLETE":
        return s.status is not WorkflowStatus.COMPENSATED
    ordered = s.ending is not None and s.ending.undo and not s.ending.stopped
    return not ordered and node.in_doubt


def _parts_undone(c: Case, trace_id: str, rows: list[Entry]) -> Iterator[Violation]:
    """A rollback of a part is not over while something on its list stands, or may stand, as it was."""
    listed: set[str] = set()
    for i, r in enumerate(rows):
        if r.type == "WORKFLOW_COMPENSATING":
            if r.data["scope"].split(":")[0] in ("savepoint", "subtree"):
                listed |= {n["node_id"] for n in r.data["nodes"]}
            else:
                listed.clear()
        elif r.type == "WORKFLOW_RESUMED" and (r.meta or {}).get("rolled_back"):
            nodes = c.folded(rows[:i]).nodes
            for k in sorted(k for k in listed if _may_stand(nodes[k])):
                state = nodes[k].state.value
                yield Violation("I8", f"{trace_id}/{k}", f"row {r.seq} says that it was rolled back, and it is {state}")
            listed.clear()


def _may_stand(node: NodeState) -> bool:
    if node.spec.undoing is None:
        return False
    doubtful = node.in_doubt and node.spec.effect_class is not EffectClass.PURE
    return node.state.value == "COMPLETE" or (node.state.value in ("CANCELLED", "SKIPPED") and doubtful)


def _undo_order(trace_id: str, rows: list[Entry]) -> Iterator[Violation]:
    waits: dict[str, list[str]] = {}
    over: set[str] = set()
    begun = {
        r.data["node_id"]: r.seq for r in rows if r.type == "NODE_STATE_CHANGED" and r.data["to"] == "COMPENSATING"
    }
    for r in rows:
        d = r.data
        if r.type == "WORKFLOW_COMPENSATING":
            waits.update({n["node_id"]: n["depends_on"] for n in d["nodes"]})
        elif r.type == "HITL_RESOLVED" and (r.meta or {}).get("kind") == "accept":
            over.add(d["node_id"])
        elif r.type == "NODE_STATE_CHANGED":
            k = d["node_id"]
            if d["to"] in ("COMPENSATED", "NOTHING_TO_UNDO", "NOT_REVERSIBLE", "CANCELLED"):
                over.add(k)
            if d["to"] == "PENDING":
                waits.pop(k, None)
            if d["to"] == "PENDING" or (d["to"] == "CANCELLED" and (r.meta or {}).get("doubt")):
                over.discard(k)
            if d["to"] == "COMPENSATING" and d["from"] != "COMPENSATING" and d["attempt"] == 1:
                before = [x for x in waits.get(k, []) if x not in over and begun.get(x, 0) > r.seq]
                if before:
                    yield Violation("I8", f"{trace_id}/{k}", f"its undo began before those of {before}")


@_invariant("I9")
def something_will_wake_it(c: Case) -> Iterator[Violation]:
    open_ = {p.trace_id for p in c.h.pauses if p.state == "open"}
    asked = {x.trace_id for x in c.h.commands if not x.applied}
    upto = {x.p: x.published_upto for x in c.h.partitions}
    for w in c.h.workflows:
        if w.ended or w.parked or w.trace_id in open_:
            continue
        behind = any(r.pseq > upto.get(r.p, 0) for r in c.rows.get(w.trace_id, ())[-1:])
        if not (w.wake or w.trace_id in asked or behind):
            yield Violation("I9", w.trace_id, f"it is {w.status} and nothing will ever wake it")
        elif c.h.quiet:
            yield Violation("I9", w.trace_id, f"everything has healed and it is still {w.status}")


@_invariant("I10")
def offsets_move_with_state(c: Case) -> Iterator[Violation]:
    for text in c.h.torn:
        yield Violation("I10", "a commit", text)
    rows: Counter[int] = Counter(r.p for r in c.h.journal)
    for x in c.h.partitions:
        if x.next_pseq != rows[x.p] + 1:
            yield Violation("I10", f"partition {x.p}", f"next_pseq is {x.next_pseq}, its journal has {rows[x.p]} rows")
        if x.published_upto >= x.next_pseq:
            yield Violation("I10", f"partition {x.p}", f"{x.published_upto} are published of {x.next_pseq - 1}")
        for topic in {*x.offsets, *(t for t, p in c.h.ends or () if p == x.p)}:
            offset, ce_id = x.offsets.get(topic, (0, None))
            end = (c.h.ends or {}).get((topic, x.p))
            if end is not None and offset > end:
                yield Violation("I10", f"{topic}/{x.p}", f"offset {offset} lies beyond the log's end {end}")
            if end is not None and c.h.quiet and offset < end:
                yield Violation("I10", f"{topic}/{x.p}", f"offset {offset} is behind, the log ends at {end}")
            known = c.h.ce_ids.get((topic, x.p, offset - 1))
            if known is not None and ce_id is not None and known != ce_id:
                yield Violation("I10", f"{topic}/{x.p}", f"the record before {offset} is {known}, not {ce_id}")


@_invariant("I13")
def everything_is_bounded(c: Case) -> Iterator[Violation]:
    for r in c.h.journal:
        if len(json.dumps(r.data)) > LARGEST_EVENT_BYTES:
            yield Violation("I13", r.trace_id, f"event {r.seq} exceeds 256 KiB")
        d = r.data
        if r.type == "NODE_STATE_CHANGED" and d["to"] == "SCHEDULED" and d["attempt"] > d["max_attempts"]:
            yield Violation("I13", r.trace_id, f"{d['node_id']} has attempt {d['attempt']} of {d['max_attempts']}")
    for name, n in c.h.queues.items():
        if c.h.quiet and n:
            yield Violation("I13", name, f"{n} still wait when everything is quiet")


@_invariant("I16")
def the_run_was_not_idle(c: Case) -> Iterator[Violation]:
    ended = sum(1 for w in c.h.workflows if w.ended)
    if ended < c.h.least_ended:
        yield Violation("I16", "the run", f"{ended} workflows ended, at least {c.h.least_ended} were to")
    for name in sorted(c.h.expected_faults):
        if c.h.faults[name] == 0:
            yield Violation("I16", "the run", f"the fault {name!r} was to be injected and never was")


@_invariant("I17")
def what_is_guarded_was_decided(c: Case) -> Iterator[Violation]:
    by_trace: dict[str, list[Effect]] = defaultdict(list)
    for e in c.h.effects:
        by_trace[e.trace_id].append(e)
    for trace_id, s in c.states.items():
        specs = {k: n.spec for k, n in s.nodes.items()}
        for where, text in gates.faults(c.rows[trace_id], specs, by_trace[trace_id], c.h.standing):
            yield Violation("I17", where, text)
