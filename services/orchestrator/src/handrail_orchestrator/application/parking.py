"""Workflows that the rules cannot handle stand still, and records that nobody can read are set aside: a person has a way on.

Three ways lead on from a parked workflow: its record is put back (`quarantine replay`), it goes on without that record
(`discard`), or it is given up: undone where the rules can still follow, ended as it stands where they cannot.
"""

from __future__ import annotations

from typing import Any

import orjson
import structlog

from handrail_contracts.codec import encode
from handrail_contracts.events import TERMINAL, EventType
from handrail_contracts.model import iso
from handrail_contracts.tasks import DeadLetter
from handrail_engine.decide import Decided, decide
from handrail_engine.evolve import fold
from handrail_engine.forced import doubtful, force_end
from handrail_engine.inputs import GiveUp, Rejection, Start
from handrail_orchestrator.application.cache import Cache, Entry
from handrail_orchestrator.application.opened import Opened
from handrail_orchestrator.application.ownership import Ownership
from handrail_orchestrator.application.places import Places
from handrail_orchestrator.application.ports import Parked
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.records import look_again, quarantined
from handrail_orchestrator.application.work import Item, given_up_by
from handrail_runtime.memory import ran_out
from handrail_runtime.ports import Record

_log = structlog.get_logger(__name__)


class Parking:
    """Puts into a batch what stands still, and why, and what is given up."""

    def __init__(self, tenant: str, ownership: Ownership, cache: Cache, publisher: Publisher) -> None:
        self._tenant, self._own, self._cache, self._publisher = tenant, ownership, cache, publisher

    def park(self, trace_id: str, entry: Entry, items: list[Item], error: Exception, opened: Opened) -> None:
        """A workflow that the rules cannot handle stands still, with everything that comes for it, until a person replays."""
        _log.error("workflow_parked", trace_id=trace_id, kind=type(error).__name__, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        mine = {i.n for i in items if i.n is not None}
        opened.commands = [(n, e) for n, e in opened.commands if n not in mine]
        self._cache.drop(trace_id)
        self.set_aside(items, trace_id, reason, opened, entry)

    def set_aside(
        self, items: list[Item], trace_id: str, reason: str, opened: Opened, entry: Entry, *, blank: bool = False
    ) -> None:
        """Parks it, with a record in quarantine whatever it was that parked it: a replay of that is a person's way on. `blank`:
        nothing that it was started with can be stored."""
        records = items
        if all(i.record is None for i in items):
            records = [Item(None, record=look_again(self._tenant, trace_id, entry.p, opened.now.ms))]
        self.keep(records, trace_id, reason, opened)
        known = next((i.what for i in items if isinstance(i.what, Start)), entry.state)
        told = (None, None, b"{}") if blank else (known.blueprint, known.intent, orjson.dumps(known.labels))
        opened.batch.parked.append(Parked(trace_id, reason, entry.p, entry.born, *told))

    def keep(self, items: list[Item], trace_id: str, reason: str, opened: Opened) -> None:
        """Puts the records among these inputs into quarantine, where a replay finds them."""
        for item in items:
            if item.record is not None:
                bus_id = self._bus_id(item.record.partition)
                opened.batch.quarantine.append(quarantined(item.record, reason[:300], bus_id, trace_id))

    def stand_still(self, trace_id: str, entry: Entry, items: list[Item], opened: Opened) -> None:
        """What came for a workflow that is parked, or that cannot be folded: only giving it up moves it."""
        over = entry.stored_status in TERMINAL
        order = given_up_by(items)
        if order is not None and not over:
            self.give_up(entry, items, order, opened)
        elif entry.broken is not None and not (entry.parked or over):
            self.park(trace_id, entry, items, entry.broken, opened)
        else:
            # its records go where a replay finds them; its commands stay unapplied: a 202 is never dropped
            why = "its workflow is parked" if entry.parked else f"its workflow cannot be folded: {entry.broken}"
            self.keep(items, trace_id, why, opened)
            opened.commands.extend((i.n, None) for i in items if i.n is not None and isinstance(i.what, GiveUp))
            self._cache.drop(trace_id)

    def give_up(self, entry: Entry, items: list[Item], order: GiveUp, opened: Opened) -> None:
        """Ends a workflow that stands still (`entry` has its whole journal): the rules wind it down, as a cancel would; where
        they fail, or have failed at that before, it ends at once. Its records are kept to be read, its places come back."""
        trace_id = entry.state.trace_id
        opened.commands.extend((i.n, entry) for i in items if i.n is not None)
        self.keep(items, trace_id, "It came while its workflow was given up.", opened)
        before = dict(entry.state.places)
        try:
            answer = self._wind_down(entry, order, opened)
        except Exception as e:  # whatever the rules do with it, this workflow ends, and no other is touched
            if ran_out(e):
                raise
            _log.error("workflow_ended_by_force", trace_id=trace_id, kind=type(e).__name__, error=str(e)[:200])
            self._force(entry, order, f"{type(e).__name__}: {e}"[:200], opened)
            return
        _log.warning("parked_workflow_wound_down", trace_id=trace_id)
        taken: dict[str, int] = {}
        Places.settle(entry.state, before, opened.room, taken)
        opened.take(taken)
        opened.decided.append((entry, answer.rows, answer.messages, None))
        opened.touched[trace_id] = entry
        opened.batch.given_up.append((trace_id, entry.p, order.reason, entry.state.ended, order.actor, order.channel))

    @staticmethod
    def _wind_down(entry: Entry, order: GiveUp, opened: Opened) -> Decided:
        if entry.broken is not None:
            raise entry.broken
        answer = decide(entry.state, order, opened.now)
        if isinstance(answer, Rejection):
            raise RuntimeError(f"Expected rules that wind it down, but {answer.detail or answer.reason}.")
        entry.parked, entry.journal = False, None
        return answer

    def _force(self, entry: Entry, order: GiveUp, why: str, opened: Opened) -> None:
        journal, trace_id, now = entry.journal or [], entry.state.trace_id, opened.now.ms
        end = force_end(self._tenant, trace_id, journal, order, why, now)
        if entry.broken is None:  # the rules may have left its state halfway
            for letter in doubtful(fold(self._tenant, trace_id, journal)):
                self.late(entry.p, letter, opened)
        ended = Entry(end.state, entry.p, entry.born)
        letters = (r.data["dead_letter_id"] for r in journal if r.type == EventType.TASK_DEAD_LETTERED)
        opened.batch.letters_over.extend((letter, order.reason, now) for letter in letters)
        opened.take({key: -n for key, n in end.places.items()})
        opened.commands = [(n, ended if e is entry else e) for n, e in opened.commands]
        opened.decided.append((ended, end.rows, [], None))
        opened.touched[trace_id] = ended
        opened.batch.given_up.append((trace_id, entry.p, order.reason, True, order.actor, order.channel))

    def late(self, p: int, letter: DeadLetter, opened: Opened) -> None:
        """Shows a person an effect that nobody waits for any more: a dead letter, which no journal has."""
        agent = letter.task["agent"] if letter.task else None
        what = (
            letter.dead_letter_id,
            letter.trace_id,
            letter.node_id,
            "late_effect",
            agent,
            "late-effect",
            encode(letter),
        )
        opened.batch.dead_letters.append((*what, None, "open", opened.now.ms))
        opened.sendings.append(self._publisher.message(p, letter, iso(opened.now.ms)))

    def unread(self, record: Record, why: str) -> tuple[Any, ...]:
        """The quarantine row of a record that concerns no workflow."""
        return quarantined(record, why, self._bus_id(record.partition), None)

    def _bus_id(self, p: int) -> str:
        return self._own.held[p].bus_id or ""
