"""Answers: none is given up while there is a chance that the bus takes it."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs
from tests.unit.agents.attempts import task
from tests.waiting import wait_until

from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.attempt import plain_result
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.model import iso
from handrail_contracts.tasks import Outcome
from handrail_runtime.bus_memory import MemoryBus


async def test_an_answer_waits_until_its_topic_is_known_again() -> None:
    bus = MemoryBus()
    answers = Answers(bus, 1, "worker")
    await answers.start()
    of = task()
    said = plain_result(of, Outcome.OK, worker="worker")
    with capture_logs() as told:
        running = asyncio.create_task(answers.run())
        answers.result(of, said.outcome, encode(said), iso(0))
        await wait_until(
            lambda: [t["event"] for t in told].count("answers_failed") > 1, description="it was tried again"
        )
    await bus.ensure_topics({topics.RESULTS: (1, {})})
    assert await answers.flushed(30.0)
    reader = await bus.reader()
    reader.assign({(topics.RESULTS, 0): 0})
    [record] = await reader.read(10, 5)
    assert (await bus.ranges([(topics.RESULTS, 0)]))[topics.RESULTS, 0].end == 1
    assert record.key == b"default/t"
    answers.stop()
    await asyncio.wait_for(running, 30)
    await answers.close()
    await bus.close()


async def test_news_told_within_a_millisecond_have_ids_of_their_own() -> None:
    bus = MemoryBus()
    await bus.ensure_topics({topics.PROGRESS: (1, {})})
    answers = Answers(bus, 1, "worker")
    await answers.start()
    for message in ("one", "two", "two"):
        answers.progress(task(), 0.5, message, 1_000)
    answers.stop()
    await asyncio.wait_for(answers.run(), 30)
    reader = await bus.reader()
    reader.assign({(topics.PROGRESS, 0): 0})
    one, two, again = [dict(record.headers)["ce_id"] for record in await reader.read(10, 5)]
    assert one != two == again
    await answers.close()
    await bus.close()
