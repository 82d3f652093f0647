"""Who is woken when: each workflow once, at its earliest time, and none that has ended."""

from __future__ import annotations

from typing import Any

from handrail_contracts.ids import partition
from handrail_contracts.tasks import Outcome, Result
from handrail_engine.inputs import Start
from handrail_engine.outgoing import Dispatch
from handrail_orchestrator.application.batch import Batcher
from handrail_orchestrator.application.cache import Cache
from handrail_orchestrator.application.ownership import Held, Ownership
from handrail_orchestrator.application.ports import Batch, Stored
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Item, Work

P, NOW = 4, 1_764_200_000_000
NODES = [{"id": "a", "agent": "bot", "action": "run", "effect_class": "pure", "inputs": {}, "depends_on": []}]


def test_the_earliest_time_of_each_counts() -> None:
    wakeups = Wakeups()
    wakeups.set("one", 300)
    wakeups.set("one", 100)
    wakeups.set("one", 200)
    wakeups.set("two", 150)
    wakeups.set("three", None)
    assert wakeups.next_ms() == 100
    assert wakeups.due(99, 10) == []
    assert wakeups.due(1_000, 10) == ["one", "two"]
    assert wakeups.due(1_000, 10) == []


def test_what_is_forgotten_hurries_nobody() -> None:
    wakeups = Wakeups()
    wakeups.set("one", 100)
    wakeups.set("two", 200)
    wakeups.forget("one")
    assert wakeups.next_ms() == 200
    wakeups.forget("two")
    assert wakeups.next_ms() is None
    wakeups.set("two", 300)
    assert (wakeups.next_ms(), wakeups.due(300, 10)) == (300, ["two"])


class _Store:
    """Takes every batch and knows no workflow; counts how often it is asked for some."""

    def __init__(self) -> None:
        self.loads: list[list[str]] = []

    async def load(self, trace_ids: list[str], fold_version: int | None = None) -> list[Stored]:
        self.loads.append(list(trace_ids))
        return []

    async def policies(self) -> tuple[int, list[Any]]:
        return 0, []

    async def track_record(self, told: Any) -> dict[tuple[str, str], tuple[float, float]]:
        return {}

    async def commit(self, batch: Batch) -> None: ...


async def test_a_workflow_that_has_ended_is_not_looked_at_again() -> None:
    """Its attempt had a time to be claimed by: long over when it would ring, and a whole journal read for nothing."""
    store: Any = _Store()
    nobody: Any = None
    own, cache, wakeups = Ownership(store, nobody, nobody, 2.5), Cache(100), Wakeups()
    own.held = {p: Held(p, 1, "bus", {}, 1, 0, verified=True) for p in range(P)}
    sent: list[Any] = []
    publisher: Any = Publisher(nobody, "default", P, nobody)
    real, publisher.message = publisher.message, lambda p, m, at: (sent.append(m), real(p, m, at))[1]
    batcher = Batcher(store, cache, own, publisher, wakeups, "default", lambda: NOW)
    trace_id = "t1"
    p = partition("default", trace_id, P)

    async def decide(what: Any) -> None:
        work = Work()
        work.add(trace_id, p, Item(what))
        await batcher.run(work)

    await decide(Start("count", None, {}, {}, NODES, None, None))
    assert wakeups.next_ms() is not None, "an attempt is out: somebody must look whether it is claimed"
    [task] = [m for m in sent if isinstance(m, Dispatch)]
    ok = {"outcome": Outcome.OK, "output": 1, "worker": "w", "effect_key": task.effect_key, "attempt": task.attempt}
    await decide(Result(trace_id=trace_id, node_id="a", **ok))
    assert cache.has_ended(trace_id)
    assert wakeups.next_ms() is None
    assert wakeups.due(NOW + 86_400_000, 10) == []
