"""A batch that is being built: what it will write, and what follows once it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from handrail_engine.inputs import Now
from handrail_engine.state import Row
from handrail_engine.turn import Message
from handrail_orchestrator.application.cache import Entry
from handrail_orchestrator.application.lane import Sending
from handrail_orchestrator.application.ports import Batch


@dataclass(slots=True)
class Opened:
    """Filled while the inputs are decided. `touched`: states that the cache keeps once it is committed."""

    batch: Batch
    now: Now
    decided: list[tuple[Entry, list[Row], list[Message], str | None]] = field(default_factory=list)
    commands: list[tuple[int, Entry | None]] = field(default_factory=list)
    touched: dict[str, Entry] = field(default_factory=dict)
    sendings: list[Sending] = field(default_factory=list)
    room: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def take(self, more: Mapping[str, int]) -> None:
        """Counts places that are taken, or (below 0) given back."""
        for key, n in more.items():
            self.places[key] = self.places.get(key, 0) + n
