"""One clock hand for all attempts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import pytest_asyncio
from tests.unit.agents.attempts import attempt
from tests.waiting import wait_until

from handrail_agents.runtime import timers
from handrail_agents.runtime.attempt import Attempt, Stage
from handrail_agents.runtime.timers import Timers


@dataclass
class Heard:
    """What the timers called."""

    timers: Timers
    started: list[Attempt] = field(default_factory=list[Attempt])
    beats: Counter[str] = field(default_factory=Counter[str])

    def watch(self, a: Attempt) -> Attempt:
        a.runner = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]  # a function that never ends
        self.timers.watch(a)
        return a


@pytest_asyncio.fixture(loop_scope="session")
async def heard() -> AsyncGenerator[Heard]:
    def started(a: Attempt) -> None:
        a.told = True
        made.started.append(a)

    def beat(a: Attempt) -> None:
        made.beats[a.task.effect_key] += 1

    made = Heard(Timers(0.05, started, beat))
    running = asyncio.create_task(made.timers.run())
    yield made
    made.timers.stop()
    await running


async def test_a_long_attempt_says_once_that_it_started_and_then_shows_life(heard: Heard) -> None:
    a = heard.watch(attempt(running=True, lease_s=0.15))
    await wait_until(lambda: heard.beats[a.task.effect_key] >= 3, description="three heartbeats")
    assert heard.started == [a]
    assert a.interrupted is None


async def test_an_attempt_that_has_ended_is_forgotten(heard: Heard) -> None:
    short = heard.watch(attempt(key="short", running=True, lease_s=0.1))
    long = heard.watch(attempt(key="long", running=True, lease_s=0.1))
    short.stage = Stage.CLOSING
    await wait_until(lambda: heard.beats["long"] >= 3, description="the other's heartbeats")
    assert heard.started == [long]
    long.stage = Stage.CLOSING
    before = heard.beats["long"]
    third = heard.watch(attempt(key="third", running=True, lease_s=0.1))
    await wait_until(lambda: heard.beats["third"] >= 3, description="a third's heartbeats")
    assert (heard.beats["short"], heard.beats["long"]) == (0, before)
    assert third.interrupted is None


async def test_an_attempt_is_interrupted_at_its_limit_also_when_that_is_shorter_than_a_moment(heard: Heard) -> None:
    for limit in (0.01, 0.2):
        a = heard.watch(attempt(key=f"limit {limit}", running=True, start_to_close_s=limit, lease_s=5))
        context = a.make_context()
        await wait_until(lambda a=a: a.interrupted, description="it is interrupted")  # type: ignore[misc]
        assert a.interrupted == "start-to-close"
        assert context.cancelled.is_set()
        assert a.runner is not None
        await asyncio.wait({a.runner})
        assert a.runner.cancelled()


async def test_who_falls_silent_is_left_alone_from_then_on(heard: Heard) -> None:
    a = attempt(key="silent", running=True, start_to_close_s=0.1, lease_s=0.1)
    a.silent = True
    heard.watch(a)
    other = heard.watch(attempt(key="other", running=True, lease_s=0.1))
    await wait_until(lambda: heard.beats["other"] >= 8, description="twice the limit has passed")
    assert a.interrupted is None
    assert heard.beats["silent"] == 0
    assert heard.started == [a, other]


async def test_many_attempts_are_each_looked_after(heard: Heard) -> None:
    many = [heard.watch(attempt(key=str(i), running=True, lease_s=0.2 + i / 500)) for i in range(200)]
    await wait_until(lambda: all(heard.beats[str(i)] >= 2 for i in range(200)), description="two beats of each")
    assert len(heard.started) == len(many)


async def test_short_attempts_that_come_one_by_one_do_not_each_wake_it(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    def monotonic() -> float:
        nonlocal turns
        turns += 1
        return time.monotonic()

    monkeypatch.setattr(timers, "time", SimpleNamespace(monotonic=monotonic))
    began = time.monotonic()
    for i in range(300):
        a = attempt(key=str(i), running=True)
        heard.timers.watch(a)
        a.stage = Stage.CLOSING
        await asyncio.sleep(0)
    periods = (time.monotonic() - began) / 0.05  # each may have one turn, which looks at the clock twice
    assert turns < 30 + 2 * periods
    long = heard.watch(attempt(key="long", running=True))
    await wait_until(lambda: heard.started == [long], description="the long one says that it started")
