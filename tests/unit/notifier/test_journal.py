"""The journal's reads when the database fails: one answer for every kind of trouble."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from handrail_notifier.adapters.journal import PostgresJournal
from handrail_notifier.application.ports import Unavailable


class Failing:
    """A pool whose connections fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def acquire(self, **_: Any) -> Failing:
        return self

    async def __aenter__(self) -> Failing:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def fetch(self, *_: object, **__: object) -> list[Any]:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("got result for unknown protocol state 3"),
        asyncpg.PostgresError("x"),
        asyncpg.InterfaceError("connection is closed"),
        OSError("unreachable"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_fails_below_a_read_is_told_as_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable):
        await PostgresJournal(Failing(error), "default").open_pauses(10)
