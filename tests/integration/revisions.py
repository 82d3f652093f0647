"""Databases as an older version left them."""

from __future__ import annotations

import alembic.command
import pytest

from handrail_store import migrate


async def upgraded_to(revision: str, dsn: str, partitions: int) -> None:
    """Makes what `migrate.upgrade` made when this revision was the newest one."""
    real = alembic.command.upgrade
    with pytest.MonkeyPatch.context() as before:
        before.setattr(alembic.command, "upgrade", lambda config, _: real(config, revision))
        before.setattr(migrate, "head", lambda: revision)
        await migrate.upgrade(dsn, partitions)
