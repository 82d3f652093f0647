"""What several long proofs run on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from handrail.engines.kafka import LocalKafka


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncGenerator[LocalKafka]:
    """A Kafka of one's own: topics of other tests are not ours to read, and these may be deleted."""
    kafka = await LocalKafka.start(tmp_path / "kafka", on_progress=print)
    try:
        yield kafka
    finally:
        await kafka.stop()
