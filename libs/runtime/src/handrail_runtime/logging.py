"""Logs: one JSON object per line in containers, coloured lines on a terminal; the standard library's loggers join in.

Logs go to standard error: standard output belongs to what a command answers.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

_QUIET = {
    "aiokafka": logging.WARNING,
    "apprise": logging.CRITICAL,  # it writes down addresses that it cannot read, and those hold tokens
    "asyncio": logging.WARNING,
    "httpx2": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}


def configure(service: str, level: str = "info", *, as_json: bool | None = None) -> None:
    """Sets up structlog and the standard library for this process. `as_json` None: JSON unless standard error is a
    terminal. Idempotent; the last call wins."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    plain = not sys.stderr.isatty() if as_json is None else as_json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Service(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_render(plain)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name, lowest in _QUIET.items():
        logging.getLogger(name).setLevel(max(lowest, threshold))


def _render(plain: bool) -> list[Any]:
    if not plain:
        return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _on_terminal()]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_json),
    ]


def _on_terminal() -> structlog.dev.ConsoleRenderer:
    """Tracebacks as Python prints them: with the values of all variables they would show what nobody may see, and hold up
    the service for seconds while they are drawn."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _json(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


class _Service:
    """Names the service in every line, unless the logger is bound to another (embedded mode runs four in one process)."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("service", self._service)
        return event
