"""The `handrail` command: every group of commands, put together."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from handrail.cli import (
    act,
    archive,
    channels,
    doctor,
    engines,
    escalate,
    export,
    inbox,
    look,
    policy,
    run,
    set_aside,
    timeline,
)

_EPILOG = (
    "Start everything on this machine: handrail up --demo (or make demo).\n\n"
    "Then: handrail run --blueprint employee-onboarding --input sku=MBP-OUT-OF-STOCK --watch\n\n"
    "Exit codes: 0 it worked, 1 Handrail refused or did not answer, 2 wrong usage, 3 (with --watch or --wait) the"
    " workflow ended otherwise than complete or needs a person."
)
_RUN, _DECIDE, _LOOK, _OPERATE = "Run", "Decide", "Look", "Operate"


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"handrail {version('handrail')}")  # noqa: T201  # for programs
        except PackageNotFoundError:
            print("handrail (not installed)")  # noqa: T201  # for programs
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The panic button for agentic workflows: start them, watch them live, decide when they need you."""


def build() -> typer.Typer:
    """The whole command, assembled anew."""
    app = typer.Typer(
        no_args_is_help=True,
        epilog=_EPILOG,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    _starting(app)
    app.command(rich_help_panel=_RUN, epilog=run.RUN_EPILOG)(run.run)
    app.command(rich_help_panel=_RUN, epilog=run.WATCH_EPILOG)(run.watch)
    app.command(rich_help_panel=_DECIDE)(inbox.inbox)
    app.command(rich_help_panel=_DECIDE, epilog=act.RESOLVE_EPILOG)(act.resolve)
    app.command(rich_help_panel=_DECIDE, epilog=escalate.ESCALATE_EPILOG)(escalate.escalate)
    for command in (act.claim, act.release, escalate.say, act.pause, act.cancel):
        app.command(rich_help_panel=_DECIDE)(command)
    for command in (look.ls, look.show, look.explain, timeline.trace, look.blueprints, look.agents):
        app.command(rich_help_panel=_LOOK)(command)
    app.add_typer(export.export, name="export", rich_help_panel=_LOOK)
    app.add_typer(policy.policy, name="policy", rich_help_panel=_OPERATE)
    app.add_typer(set_aside.dead_letters, name="dead-letters", rich_help_panel=_OPERATE)
    app.add_typer(set_aside.quarantine, name="quarantine", rich_help_panel=_OPERATE)
    app.add_typer(channels.channels, name="channels", rich_help_panel=_OPERATE)
    app.command(rich_help_panel=_OPERATE)(doctor.doctor)
    app.add_typer(engines.topics, name="topics", rich_help_panel=_OPERATE)
    app.add_typer(archive.db, name="db", rich_help_panel=_OPERATE)
    app.add_typer(engines.clock, name="clock", rich_help_panel=_OPERATE)
    app.add_typer(engines.config, name="config", rich_help_panel=_OPERATE)
    return app


def _starting(app: typer.Typer) -> None:
    if importlib.util.find_spec("handrail.cli.up") is None:  # a distribution of the client alone
        return
    from handrail.cli import up

    for name in ("up", "stack"):
        command = getattr(up, name, None)
        if command is not None:
            app.command(name, rich_help_panel=_RUN)(command)


def main() -> None:
    """The entry point `handrail`."""
    sys.exit(build()())
