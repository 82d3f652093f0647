"""Blueprints on disk become rows: loaded once at start, immutable, a changed body needs a new version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
import structlog

from handrail_contracts.blueprint import Blueprint
from handrail_contracts.ids import digest
from handrail_orchestrator.application.ports import Store

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A blueprint as read, and from where."""

    where: str
    blueprint: Blueprint


async def load_blueprints(store: Store, sources: Iterable[Source]) -> int:
    """Stores every version that is not there yet; answers how many there are. A version that stands with another body is
    kept as it stands, because running workflows and audits name it; the log says what to change. Fields keep the order of
    their author, for forms are drawn from it; the digest does not depend on it."""
    count = 0
    for source in sources:
        b = source.blueprint
        body = b.model_dump(mode="json", by_alias=True, exclude_unset=True)
        mark = digest(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
        stored = await store.save_blueprint(b.name, b.version, mark, orjson.dumps(body))
        if stored is not None and stored != mark:
            _log.error("blueprint_changed_without_new_version", blueprint=b.name, version=b.version, where=source.where)
        count += 1
    return count
