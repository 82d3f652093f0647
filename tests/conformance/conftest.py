"""`rig`: each bus in turn; `full_rig`: each that can do everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial

import pytest
import pytest_asyncio

from tests.conformance.bus_rigs import KafkaRig, MemoryRig, MockRig, Rig

_REAL = pytest.param("kafka", marks=pytest.mark.kafka)


@pytest.fixture(params=["memory", "mock", _REAL])
def make_rig(request: pytest.FixtureRequest) -> Callable[[], Rig]:
    """Asks for the engine here: an async fixture may not."""
    if request.param == "memory":
        return MemoryRig
    if request.param == "mock":
        return partial(MockRig, request.getfixturevalue("mock_kafka"))
    return partial(KafkaRig, request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture(params=["memory", _REAL])
def make_full_rig(request: pytest.FixtureRequest) -> Callable[[], Rig]:
    """The buses that can do everything."""
    return MemoryRig if request.param == "memory" else partial(KafkaRig, request.getfixturevalue("kafka_bootstrap"))


@pytest_asyncio.fixture(loop_scope="session")
async def rig(make_rig: Callable[[], Rig]) -> AsyncGenerator[Rig]:
    """A bus of this test's own, on the engine that the whole session shares."""
    made = make_rig()
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def full_rig(make_full_rig: Callable[[], Rig]) -> AsyncGenerator[Rig]:
    """As `rig`, without librdkafka's mock: it has one member per group, no orders about topics, no limits per topic."""
    made = make_full_rig()
    yield made
    await made.close()
