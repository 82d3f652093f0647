"""The fixtures that every integration test shares. All engines live as long as the session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NoReturn

import pytest
import pytest_asyncio
import structlog
from hypothesis import settings

from handrail.engines.errors import EngineUnavailable
from tests.engines import Engines, drop_database, fresh_database, missing, required
from tests.mock_kafka import MockKafka

settings.register_profile("handrail", deadline=None)  # a busy machine may hold any example up
settings.load_profile("handrail")
# A traceback with the values of all variables takes seconds to draw, in which what is tested stands still.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

_ORIGINS = pytest.StashKey[dict[str, str]]()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> AsyncGenerator[Engines]:
    """The engines of this session; the other fixtures are its short forms."""
    session = Engines(tmp_path_factory.mktemp("engines"))
    pytestconfig.stash[_ORIGINS] = session.origins
    try:
        yield session
    finally:
        await session.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(engines: Engines) -> str:
    """A DSN that may create databases."""
    return await engines.postgres()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_dsn(postgres_server: str) -> AsyncGenerator[str]:
    """A database of this session, empty at its start."""
    dsn = await fresh_database(postgres_server)
    yield dsn
    await drop_database(postgres_server, dsn)


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database(postgres_server: str) -> AsyncGenerator[str]:
    """A database of this test alone."""
    dsn = await fresh_database(postgres_server)
    yield dsn
    await drop_database(postgres_server, dsn)


@pytest_asyncio.fixture(loop_scope="session")
async def make_database(postgres_server: str) -> AsyncGenerator[Callable[[], Awaitable[str]]]:
    """Call it for one more database of this test."""
    made: list[str] = []

    async def make() -> str:
        made.append(await fresh_database(postgres_server))
        return made[-1]

    yield make
    for dsn in made:
        await drop_database(postgres_server, dsn)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(engines: Engines) -> str:
    """A Valkey that all tests share: use keys of your own, or flush it when you mean to."""
    return await engines.redis()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_bootstrap(engines: Engines) -> str:
    """A real Kafka that all tests share: use topic and group names of your own. Mark the test `kafka`."""
    try:
        return await engines.kafka()
    except EngineUnavailable as error:  # known only now: the repository could not be reached
        _absent("kafka", str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mock_kafka(engines: Engines) -> MockKafka:
    """librdkafka's mock cluster with faults on demand; connect to its `bootstrap`."""
    if reason := missing("mock_kafka"):
        _absent("mock_kafka", reason)
    return await engines.mock_kafka()


def _absent(engine: str, reason: str) -> NoReturn:
    if required(engine):
        pytest.fail(f"HANDRAIL_REQUIRE names {engine}, but it cannot be had. {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("kafka")]
    if marked and not required("kafka") and (reason := missing("kafka")):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    origins = config.stash.get(_ORIGINS, {})
    if origins:
        used = ", ".join(f"{name}: {origin}" for name, origin in sorted(origins.items()))
        terminalreporter.write_line(f"engines used: {used}")
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        by_reason[reason.removeprefix("Skipped: ")].append(report.nodeid)
    if by_reason:
        terminalreporter.section("not run on this machine, and why")
        for reason, names in sorted(by_reason.items()):
            terminalreporter.write_line(f"{len(names)} skipped: {reason}")
            for name in names:
                terminalreporter.write_line(f"    {name}")
