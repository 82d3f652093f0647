"""`handrail topics`, `db`, `clock`, `config`: what is done to engines directly, with the settings of a service."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote, urlsplit

import typer
from rich.text import Text

from handrail.cli import tables
from handrail.cli.options import AsJson, seconds
from handrail.cli.session import INTERRUPTED, failed, out, print_json
from handrail.cli.text import duration, safe, short

if TYPE_CHECKING:
    from handrail_runtime.ports import Bus
    from handrail_runtime.settings import EngineSettings

T = TypeVar("T")
_ASK_AGAIN, _ASK_AGAIN_S = 10, 0.3
topics = typer.Typer(no_args_is_help=True, help="Kafka topics: make them, look at them.")
db = typer.Typer(no_args_is_help=True, help="PostgreSQL: tables and migrations.")
clock = typer.Typer(no_args_is_help=True, help="The clock of a development stack (needs HANDRAIL_DEV=1).")
config = typer.Typer(no_args_is_help=True, help="Settings as the services would read them.")

Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="HOST:PORT",
        envvar="HANDRAIL_KAFKA",
        help="Bootstrap servers, comma-separated.",
        show_default="127.0.0.1:9092",
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        min=1,
        max=1000,
        envvar="HANDRAIL_PARTITIONS",
        help="How many partitions, fixed for ever when the topics are made.",
        show_default="24",
    ),
]
Postgres = Annotated[
    str | None,
    typer.Option(
        "--postgres",
        metavar="DSN",
        envvar="HANDRAIL_POSTGRES_DSN",
        help="The database.",
        show_default="postgresql://handrail@127.0.0.1:5432/handrail",
    ),
]

Data = Annotated[
    Path,
    typer.Option("--data", envvar="HANDRAILDATA", help="Where no database is named: that of the `handrail up` here."),
]
DATA = Path(".handrail")


@topics.command("apply")
def apply_topics(
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="Also the task topic of this agent; again for more. Agents make theirs when they start.",
            show_default="none",
        ),
    ] = None,
    kafka: Kafka = None,
    partitions: Partitions = None,
) -> None:
    """Make the topics that are missing. Running it again changes nothing."""
    from handrail_contracts.topics import TOPICS, tasks
    from handrail_runtime.bus_kafka import KafkaBus
    from handrail_runtime.topic_plan import topic_plan

    settings = _settings(kafka=kafka, partitions=partitions)
    plan = topic_plan(settings.partitions, (*TOPICS, *(tasks(name) for name in agents or [])))

    async def work() -> list[str]:
        bus = KafkaBus(settings.kafka, client_id="handrail-cli")
        try:
            return await bus.ensure_topics(plan)
        finally:
            await bus.close()

    made = set(_run(work, f"Kafka at {settings.kafka}"))
    for name, (count, wanted) in plan.items():
        mark = Text("+ made   ", style="green") if name in made else Text("✓ is there", style="dim")
        kept = duration(int(wanted["retention.ms"]) / 1000)
        out().print(mark.append(f"  {name}", style="default").append(f"  {count} partitions, kept {kept}", style="dim"))


@topics.command("list")
def list_topics(kafka: Kafka = None, as_json: AsJson = False) -> None:
    """List the topics with their partitions, and how many records each holds."""
    from handrail_contracts.topics import TOPICS
    from handrail_runtime.bus_kafka import KafkaBus

    settings = _settings(kafka=kafka)

    async def work() -> list[dict[str, Any]]:
        bus = KafkaBus(settings.kafka, client_id="handrail-cli")
        try:
            found: list[dict[str, Any]] = []
            for topic in TOPICS:
                count = await bus.partitions(topic.name)
                held = {"partitions": count, "records": await _records(bus, topic.name, count)}
                found.append({"topic": topic.name, **held, "carries": topic.why})
            return found
        finally:
            await bus.close()

    found = _run(work, f"Kafka at {settings.kafka}")
    if as_json:
        print_json({"items": found, "next_cursor": None})
        return
    rows = [
        [
            t["topic"],
            str(t["partitions"] or "missing"),
            "?" if t["records"] is None else str(t["records"]),
            t["carries"],
        ]
        for t in found
    ]
    tables.show(("TOPIC", "PARTITIONS", "RECORDS", "CARRIES"), rows, wide=("CARRIES",), empty="")


async def _records(bus: Bus, topic: str, partitions: int) -> int | None:
    """How many records a topic holds; None while a partition has no leader, as for a moment after it was made."""
    from handrail_runtime.ports import BusError

    for _ in range(_ASK_AGAIN):
        try:
            held = await bus.ranges([(topic, p) for p in range(partitions)])
            return sum(r.end - r.start for r in held.values())
        except BusError:
            await asyncio.sleep(_ASK_AGAIN_S)
    return None


@db.command("upgrade")
def upgrade(postgres: Postgres = None, partitions: Partitions = None) -> None:
    """Bring the database to the newest shape. Running it again changes nothing."""
    from handrail_store import migrate

    settings = _settings(postgres=postgres, partitions=partitions)

    async def work() -> None:
        await migrate.upgrade(settings.postgres_dsn.get_secret_value(), settings.partitions)

    _run(work, _where(settings))
    out().print(f"The database is at revision {migrate.head()}, with {settings.partitions} partitions.")


@clock.command("show")
def show_clock(postgres: Postgres = None, data: Data = DATA, as_json: AsJson = False) -> None:
    """Show what the stack's clock says, and how far it was moved."""
    from handrail_contracts.model import iso
    from handrail_store import clock as stored

    async def ask(connection: Any) -> tuple[int, int]:
        return await stored.now_ms(connection), await stored.offset_ms(connection)

    now_ms, offset_ms = with_data(postgres, data, ask)
    if as_json:
        print_json({"now": iso(now_ms), "offset_s": offset_ms / 1000})
        return
    out().print(f"{iso(now_ms)}, {duration(offset_ms / 1000) + ' ahead' if offset_ms else 'not moved'}")


@clock.command("advance")
def advance_clock(
    by: Annotated[str, typer.Argument(metavar="TIME", help="How far: 90s, 15m, 24h, 7d.", show_default=False)],
    postgres: Postgres = None,
    data: Data = DATA,
) -> None:
    """Move the stack's clock on, so that deadlines and retries come sooner. It cannot be moved back."""
    from handrail_contracts.model import iso
    from handrail_store import clock as stored

    if not _settings().dev:
        raise failed("Expected HANDRAIL_DEV=1, but it is not set: only a development stack's clock may be moved.", 2)
    by_ms = round(seconds(by) * 1000)

    async def move(connection: Any) -> int:
        await stored.advance(connection, by_ms)
        return await stored.now_ms(connection)

    out().print(f"It is now {iso(with_data(postgres, data, move))}.")


@config.command("show")
def show_config(as_json: AsJson = False) -> None:
    """Show every setting with its value and where it is documented; secrets are masked."""
    from handrail_runtime.settings import masked

    rows: list[list[tables.Cell]] = []
    values: dict[str, Any] = {}
    for settings in _every_settings():
        for (name, value), field in zip(masked(settings).items(), type(settings).model_fields.values(), strict=True):
            values[name] = value
            given = name.lower().removeprefix(str(type(settings).model_config.get("env_prefix", "")).lower())
            chosen = given in settings.model_fields_set
            shown = Text(safe("" if value is None else value), style="bold" if chosen else "")
            rows.append([Text(name, style="cyan" if chosen else ""), shown, field.description or ""])
    if as_json:
        print_json(values)
        return
    tables.show(("SETTING", "VALUE", "MEANING"), rows, wide=("MEANING",), empty="")


def _every_settings() -> tuple[Any, ...]:
    from handrail_runtime.settings import EngineSettings, Settings, load_all

    classes: list[type[Settings]] = [EngineSettings]
    for service in ("gateway", "orchestrator", "agents", "notifier"):
        name = f"handrail_{service}.settings"
        # A machine may have some of the services only.
        if importlib.util.find_spec(f"handrail_{service}") and importlib.util.find_spec(name):
            classes.append(getattr(importlib.import_module(name), f"{service.title()}Settings"))
        if service == "notifier" and importlib.util.find_spec("handrail_notifier"):
            classes.append(importlib.import_module("handrail_notifier.outbound.settings").ChannelSettings)
    return load_all(*classes)


def _settings(
    *, kafka: str | None = None, partitions: int | None = None, postgres: str | None = None
) -> EngineSettings:
    from pydantic import ValidationError

    from handrail_runtime.settings import EngineSettings, load

    settings = load(EngineSettings)
    given = {"kafka": kafka, "partitions": partitions, "postgres_dsn": postgres}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return settings
    try:
        return EngineSettings(**given)  # pyright: ignore[reportArgumentType]  # checked by the model itself
    except ValidationError as e:
        told = e.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(told) from e


def running_in(data: Path) -> str | None:
    """The database of the `handrail up` that keeps its data there, if one runs: its postmaster's file says where."""
    try:
        told = (data / "postgres" / "pgdata" / "postmaster.pid").read_text().splitlines()
        port, directory = int(told[3]), told[4]
    except (OSError, ValueError, IndexError):
        return None
    return f"postgresql://handrail@/handrail?host={quote(directory)}&port={port}" if directory else None


def with_data(postgres: str | None, data: Path, ask: Callable[[Any], Awaitable[T]]) -> T:
    """Asks the database that was named, else that of the `handrail up` with its data there, else the one of the settings."""
    found = postgres or running_in(data)
    return with_database(found, ask, "" if found else _nowhere(data))


def with_database(postgres: str | None, ask: Callable[[Any], Awaitable[T]], hint: str = "") -> T:
    import asyncpg

    settings = _settings(postgres=postgres)

    async def work() -> T:
        connection: Any = await asyncpg.connect(settings.postgres_dsn.get_secret_value(), timeout=5)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    return _run(work, _where(settings), hint)


def _nowhere(data: Path) -> str:
    return f"No `handrail up` with its data in {data} runs: say where the one you mean keeps its own, with --data."


def _where(settings: EngineSettings) -> str:
    parts = urlsplit(settings.postgres_dsn.get_secret_value())
    return f"PostgreSQL at {parts.hostname or 'its socket'}" + (f":{parts.port}" if parts.port else "")


def _run(work: Callable[[], Awaitable[T]], engine: str, hint: str = "") -> T:
    import asyncpg

    from handrail_runtime.ports import BusError
    from handrail_store.migrate import MigrationError

    async def whole() -> T:
        return await work()

    # What goes wrong is told once, below; drivers would tell it too.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(whole())
    except MigrationError as e:
        raise failed(str(e)) from None
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        raise failed("Expected Handrail's tables, but they are not there. Run `handrail db upgrade`.") from None
    except (OSError, TimeoutError):
        raise failed(
            f"Expected {engine} to answer, but it does not. {hint or 'Is it up, and is the address right?'}"
        ) from None
    except (BusError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
        raise failed(f"Expected {engine} to do it, but: {short(e, 300)}") from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
