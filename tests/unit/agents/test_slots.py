"""Bounded slots: nobody runs beyond the bounds, nobody is forgotten, what waits is not acknowledged."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

from tests.unit.agents.attempts import act, agent, attempt
from tests.waiting import wait_until

from handrail_agents.runtime.attempt import Attempt, Stage
from handrail_agents.runtime.slots import Slots
from handrail_sdk.agent import Agent


class Work:
    """Attempts that end when they are told to."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.began: list[str] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def do(self, a: Attempt) -> None:
        key, name = a.task.effect_key, a.definition.agent.name
        self.began.append(key)
        for who in ("all", name):
            self.running[who] += 1
            self.most[who] = max(self.most[who], self.running[who])
        await self.gates.setdefault(key, asyncio.Event()).wait()
        for who in ("all", name):
            self.running[who] -= 1

    def end(self, key: str) -> None:
        self.gates.setdefault(key, asyncio.Event()).set()


def bounded(most: int) -> tuple[Agent, Any]:
    made = Agent(f"bounded-{most}", max_in_flight=most)

    @made.task()
    async def act(inputs: dict[str, Any]) -> Any:
        return inputs

    return made, act


async def test_what_waits_is_handed_off_in_order_as_slots_come_free() -> None:
    work, taken = Work(), list[str]()
    slots = Slots([agent], 2, work.do)
    for key in "abcd":
        slots.put(attempt(key=key, taken=taken))
    await wait_until(lambda: len(work.began) == 2, description="two run")
    assert (taken, slots.running, slots.room) == (["a", "b"], 2, 0)
    work.end("b")
    await wait_until(lambda: len(work.began) == 3, description="the third runs")
    assert taken == ["a", "b", "c"]
    for key in "acd":
        work.end(key)
    assert await slots.wait_until_empty(10)
    assert (taken, slots.room) == (list("abcd"), 4)


async def test_an_agents_bound_holds_without_holding_up_others() -> None:
    work, taken = Work(), list[str]()
    narrow, task = bounded(1)
    slots = Slots([agent, narrow], 10, work.do)
    for key in ("n1", "n2", "n3"):
        slots.put(attempt(key=key, definition=task, taken=taken))
    slots.put(attempt(key="free", definition=act, taken=taken))
    await wait_until(lambda: len(work.began) == 2, description="one of each runs")
    assert taken == ["n1", "free"]
    for key in ("n1", "n2", "n3", "free"):
        work.end(key)
    assert await slots.wait_until_empty(10)
    assert work.most["bounded-1"] == 1
    assert sorted(taken) == ["free", "n1", "n2", "n3"]


async def test_what_is_withdrawn_never_runs_and_is_not_acknowledged() -> None:
    work, taken = Work(), list[str]()
    slots = Slots([agent], 1, work.do)
    made = {key: attempt(key=key, taken=taken) for key in "abc"}
    for a in made.values():
        slots.put(a)
    slots.withdraw(made["b"])
    assert slots.get("b", 1) is None
    assert slots.withdraw_all() == 1
    work.end("a")
    assert await slots.wait_until_empty(10)
    assert (work.began, taken, list(slots)) == (["a"], ["a"], [])


async def test_an_attempt_is_known_while_it_is_here() -> None:
    work = Work()
    slots = Slots([agent], 1, work.do)
    first, second = attempt(key="k"), attempt(key="k", attempt=2)
    slots.put(first)
    slots.put(second)
    assert slots.get("k", 1) is first
    assert ("k", 2) in slots
    assert slots.of("k") == [first, second]
    assert (first.stage, second.stage) == (Stage.CLAIMING, Stage.WAITING)
    work.end("k")
    assert await slots.wait_until_empty(10)
    assert slots.of("k") == []


async def test_whatever_comes_in_whatever_order_bounds_hold_and_all_end() -> None:
    for seed in range(30):
        rng, work, taken = Random(seed), Work(), list[str]()
        narrow, task = bounded(rng.randint(1, 3))
        most = rng.randint(1, 6)
        slots = Slots([agent, narrow], most, work.do)
        keys = [f"{seed}-{i}" for i in range(40)]
        for key in keys:
            slots.put(attempt(key=key, definition=rng.choice([act, task]), taken=taken))
            if rng.random() < 0.5 and work.began:
                work.end(rng.choice(work.began))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        for key in keys:
            work.end(key)
        assert await slots.wait_until_empty(10), seed
        assert sorted(work.began) == sorted(keys) == sorted(taken), seed
        assert work.most["all"] <= most, seed
        assert work.most[narrow.name] <= (narrow.max_in_flight or 0), seed
        assert slots.running == 0
        await slots.wait_for_room()
