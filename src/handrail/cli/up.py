"""`handrail up` (one process, nothing installed) and `handrail stack` (real Kafka, one process per service)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_DATA = typer.Option("--data", envvar="HANDRAIL_DATA", help="Where the data is kept; made if missing.")
_HOST = typer.Option("--host", envvar="HANDRAIL_GATEWAY__HOST", help="Address to listen on.")
_PORT = typer.Option(
    "--port", envvar="HANDRAIL_GATEWAY__PORT", min=1, max=65535, help="Port of everything: API, streams, console."
)

EXIT_CANNOT_START = 78


def up(
    data: Annotated[Path, _DATA] = Path(".handrail"),
    host: Annotated[str, _HOST] = "127.0.0.1",
    port: Annotated[int, _PORT] = 8080,
    demo: Annotated[bool, typer.Option("--demo", help="Say what to try next.")] = False,
    delay_ms: Annotated[
        int | None,
        typer.Option(
            "--delay-ms",
            envvar="HANDRAIL_AGENTS__DEMO_DELAY_MS",
            help="How long a demo agent takes, in ms.",
            show_default="400 with --demo, else 0",
        ),
    ] = None,
) -> None:
    """Run all of Handrail in this terminal: PostgreSQL, Valkey, the bus and the four services in one process.

    Nothing needs to be installed and nothing is lost at the end: the next start finds the same workflows.
    Ctrl-C stops it.
    """
    from handrail.embedded import Options
    from handrail_runtime import crashpoints, logging

    logging.configure("handrail", "warning")
    crashpoints.arm()
    pace = delay_ms if delay_ms is not None else 400 if demo else None
    raise typer.Exit(_run(_up(Options(data, host, port, pace), demo)))


def stack(
    data: Annotated[Path, _DATA] = Path(".handrail/stack"),
    host: Annotated[str, _HOST] = "127.0.0.1",
    port: Annotated[int, _PORT] = 8080,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions",
            envvar="HANDRAIL_PARTITIONS",
            min=1,
            help="Fixed when the data is made.",
            show_default="what the data was made with; 4 for new data",
        ),
    ] = None,
    orchestrators: Annotated[int, typer.Option("--orchestrators", min=1, max=8, help="Processes.")] = 1,
    agents: Annotated[int, typer.Option("--agents", min=1, max=8, help="Processes.")] = 1,
) -> None:
    """Run the services as separate processes on a real Kafka, PostgreSQL and Valkey, without Docker.

    Needs Java 17 or newer and, the first time, Maven, which fetches Kafka into this user's cache folder.
    Logs are in DATA/logs. Ctrl-C stops everything.
    """
    from handrail.stack import Options

    options = Options(data, host, port, partitions, orchestrators, agents)
    raise typer.Exit(_run(_stack(options)))


def register(app: typer.Typer, *, panel: str) -> None:
    """Adds these commands to the CLI."""
    app.command(rich_help_panel=panel)(up)
    app.command(rich_help_panel=panel)(stack)


async def _stack(options: object) -> int:
    from handrail.engines.errors import EngineError
    from handrail.stack import Options, Stack
    from handrail_runtime.errors import Misconfigured
    from handrail_store.migrate import MigrationError

    assert isinstance(options, Options)
    console = Console(highlight=False)
    started = time.monotonic()
    system = Stack(
        options, lambda what, s: console.print(f"[green]✓[/] {what}" + (f"  [dim]{s:.2f} s[/]" if s else ""))
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    try:
        await system.start()
        console.print(f"[green]✓[/] [bold]ready[/]  [bold]{time.monotonic() - started:.1f} s[/]")
        _greet(console, options.host, options.port, demo=True)
        await system.run(stopping)
        console.print("Stopping.")
        return 0
    except (EngineError, MigrationError, Misconfigured) as e:
        print(f"Handrail cannot start: {e}", file=sys.stderr)  # noqa: T201  the one line that a person needs
        return EXIT_CANNOT_START
    finally:
        await system.stop()


def _run(main: object) -> int:
    from handrail_runtime.lifecycle import calm_collector

    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    calm_collector()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)  # pyright: ignore[reportArgumentType]  a coroutine of int


async def _up(options: object, demo: bool) -> int:
    from handrail.embedded import Embedded, Options
    from handrail.engines.errors import EngineError
    from handrail_runtime.errors import Misconfigured
    from handrail_store.migrate import MigrationError

    assert isinstance(options, Options)
    console = Console(stderr=False, highlight=False)
    started = time.monotonic()
    table = Table(box=None, pad_edge=False, show_header=False)
    system = Embedded(options, lambda what, s: table.add_row("[green]✓[/]", what, f"[dim]{s:.2f} s[/]"))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    try:
        with (
            console.status(f"Starting Handrail; its data is in [bold]{options.data}[/]")
            if console.is_terminal
            else contextlib.nullcontext()
        ):
            await system.start()
        table.add_row("[green]✓[/]", "[bold]ready[/]", f"[bold]{time.monotonic() - started:.1f} s[/]")
        console.print(table)
        _greet(console, options.host, options.port, demo)
        running = asyncio.create_task(system.run())
        asked = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if stopping.is_set():
            console.print("Stopping: what is under way goes on at the next start.")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(system.stop(), 15)
        await running
        return 0
    except (EngineError, Misconfigured, MigrationError) as e:
        print(f"Handrail cannot start: {e}", file=sys.stderr)  # noqa: T201  the one line that a person needs
        return EXIT_CANNOT_START
    finally:
        await system.close()


def _greet(console: Console, host: str, port: int, demo: bool) -> None:
    url = f"http://{host}:{port}"
    other = "" if port == 8080 else f" --url {url}"
    console.print(f"\nHandrail is ready: [bold]{url}/console[/]", soft_wrap=True)
    if not demo:
        return
    console.print("\nIn a second terminal, in this folder:")
    for command, what in (
        (f"./handrail run{other} --blueprint employee-onboarding --input sku=MBP-16 --watch", "runs through"),
        (f"./handrail run{other} --blueprint employee-onboarding --input sku=MBP-OUT-OF-STOCK --watch", "stops at you"),
        (f"./handrail inbox{other}", "what waits for you, and how to answer it"),
    ):
        console.print(f"  [cyan]{command}[/]", soft_wrap=True)
        console.print(f"      [dim]{what}[/]")
    console.print("\nCtrl-C stops; nothing is lost.", style="dim")
