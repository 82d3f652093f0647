"""`handrail stack` on data that was made with another number of partitions than it would choose today."""

from __future__ import annotations

import pytest

from handrail.stack import PARTITIONS, Options, partitions_of
from handrail_store.migrate import MigrationError, made_with, upgrade


async def test_older_data_keeps_its_partitions_unless_somebody_asks_for_others(empty_database: str) -> None:
    assert Options().partitions is None, "nothing was typed"
    assert await made_with(empty_database) is None
    assert await partitions_of(empty_database, None) == PARTITIONS
    assert await partitions_of(empty_database, 8) == 8
    await upgrade(empty_database, 24)
    assert await partitions_of(empty_database, None) == 24
    await upgrade(empty_database, await partitions_of(empty_database, None))
    with pytest.raises(MigrationError, match="HANDRAIL_PARTITIONS=24"):
        await upgrade(empty_database, await partitions_of(empty_database, PARTITIONS))
