"""What comes after a rest goes at once; what comes in a stream waits for its turn, unless somebody is in a hurry."""

from __future__ import annotations

import asyncio

from handrail_runtime.pace import Pace

LONG_S = 3600.0


async def _still_rests(rest: asyncio.Task[None]) -> bool:
    for _ in range(10):
        await asyncio.sleep(0)
    return not rest.done()


async def test_the_first_turn_is_taken_at_once() -> None:
    await asyncio.wait_for(Pace(LONG_S).rest(), 10)


async def test_the_next_turn_waits_until_somebody_is_in_a_hurry() -> None:
    pace = Pace(LONG_S)
    pace.turned()
    rest = asyncio.create_task(pace.rest())
    assert await _still_rests(rest)
    pace.hurry()
    await asyncio.wait_for(rest, 10)


async def test_a_hurry_that_came_before_the_rest_counts_once() -> None:
    pace = Pace(LONG_S)
    pace.turned()
    pace.hurry()
    await asyncio.wait_for(pace.rest(), 10)
    rest = asyncio.create_task(pace.rest())
    assert await _still_rests(rest)
    rest.cancel()


async def test_a_rest_ends_by_itself() -> None:
    pace = Pace(0.01)
    pace.turned()
    await asyncio.wait_for(pace.rest(), 10)


async def test_without_a_distance_nothing_rests() -> None:
    pace = Pace(0.0)
    for _ in range(3):
        pace.turned()
        await asyncio.wait_for(pace.rest(), 10)
