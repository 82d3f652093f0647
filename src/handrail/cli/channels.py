"""`handrail channels`: what is to be told outside, and a Slack, a mail server and a webhook receiver played on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from handrail.cli import tables
from handrail.cli.engines import DATA, Data, Postgres, with_data
from handrail.cli.options import AsJson
from handrail.cli.session import out, print_json

channels = typer.Typer(no_args_is_help=True, help="Slack, mail and webhooks: play them on this machine.")


@channels.command()
def simulate(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of the page and of the played Slack.")] = 8090,
    smtp_port: Annotated[int, typer.Option("--smtp-port", min=0, max=65535, help="0 takes a free one.")] = 0,
    url: Annotated[
        str, typer.Option("--url", envvar="HANDRAIL_URL", help="Where Handrail runs.")
    ] = "http://127.0.0.1:8080",
) -> None:
    """Play Slack, a mail server and a webhook receiver, so that messages with buttons can be tried without any account.

    Prints the settings with which a Handrail in another terminal uses them. Nothing leaves this machine. Ctrl-C stops it.
    """
    with contextlib.suppress(KeyboardInterrupt):
        raise typer.Exit(asyncio.run(_simulate(port, smtp_port, url)))


_LISTED = """
SELECT id, channel, kind, trace_id, state, attempts, due_at::text, error FROM handrail.outbound
WHERE state <> 'sent' ORDER BY state, due_at, id LIMIT 500
"""
_AGAIN = """
UPDATE handrail.outbound SET state = 'due', due_at = handrail.clock(), attempts = 0
WHERE state <> 'sent' AND (id = $1 OR $1 = '') RETURNING id
"""


@channels.command()
def ls(postgres: Postgres = None, data: Data = DATA, as_json: AsJson = False) -> None:
    """List what is not delivered: what waits for its next try, what is parked, and why."""
    found = _query(postgres, data, _LISTED)
    if as_json:
        print_json(found)
        return
    rows = [[r["state"], str(r["attempts"]), r["id"], r["error"] or _why(r)] for r in found]
    tables.show(("STATE", "TRIES", "ID", "WHY"), rows, wide=("WHY",), empty="Everything is delivered.")


@channels.command()
def retry(
    notice_id: Annotated[str, typer.Argument(help="As ls shows it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that is not delivered.")] = False,
    postgres: Postgres = None,
    data: Data = DATA,
) -> None:
    """Send again, under the same id: a parked notice, or one that waits."""
    if bool(notice_id) == everything:
        raise typer.BadParameter("Expected the id of one notice, or --all.")
    found = _query(postgres, data, _AGAIN, notice_id)
    out().print(f"{len(found)} will be tried at once." if found else "Nothing with this id waits to be delivered.")
    if not found:
        raise typer.Exit(1)


def _why(notice: dict[str, Any]) -> str:
    """Of what no try has failed yet."""
    if notice["state"] != "due" or notice["attempts"]:
        return ""
    if notice["channel"].startswith(("webhook", "callback")):
        return "not tried yet: it is sent where HANDRAIL_NOTIFIER__WEBHOOK_SECRETS is set"
    return "not tried yet"


def _query(postgres: str | None, data: Path, sql: str, *args: Any) -> list[dict[str, Any]]:
    async def ask(connection: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await connection.fetch(sql, *args)]

    return with_data(postgres, data, ask)


async def _simulate(port: int, smtp_port: int, url: str) -> int:
    from handrail_simulators.channels import Serving

    played = Serving(handrail_url=url, port=port)
    played.smtp_port = smtp_port
    try:
        await played.start()
    except OSError as e:
        typer.echo(f"Expected port {port} to be free, but: {e.strerror}. Choose another with --port.", err=True)
        return 78
    typer.echo(f"Slack, mail and webhooks are played at {played.url}\n\nIn a second terminal, start Handrail with:\n")
    for name, value in played.environment().items():
        typer.echo(f"export {name}='{value}'")
    typer.echo("make demo\n\nThen start a workflow that pauses, and press its buttons on the page.")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await played.stop()
    return 0
