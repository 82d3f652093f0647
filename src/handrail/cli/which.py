"""Which pause an id means: that of a pause, or of a workflow that waits at one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from handrail.cli import tables
from handrail.cli.session import USAGE, complain, dump, failed
from handrail.cli.text import safe, short

if TYPE_CHECKING:
    from handrail_contracts.answers import InboxPause
    from handrail_sdk.client import Client

_PAUSE_ID = re.compile(r"p[0-9a-f]{16,}")


async def pause_id_of(client: Client, id: str) -> str:
    """The id of the pause that `id` means: itself, or that of the only open one of a workflow."""
    return id if _PAUSE_ID.fullmatch(id) else (await open_pause(client, id))["pause_id"]


async def open_pause(client: Client, id: str) -> Mapping[str, Any]:
    """The pause that `id` means: itself, or the only open one of a workflow, else the one that was closed last, so that who
    comes second hears who was first. Tells and ends where there is none."""
    pause = await pause_of(client, id)
    if pause is not None:
        return dump(pause)
    state = dump(await client.state(id))
    pauses: list[dict[str, Any]] = state["pauses"]
    if not pauses and (over := (await client.inbox("resolved", trace_id=id, limit=1)).items):
        return dump(over[0])
    if not pauses:
        raise failed(f"Expected {id} to wait for a person, but no pause of it is open (it is {state['status']}).")
    if len(pauses) > 1:
        complain(f"Expected one open pause, but {id} has {len(pauses)}. Say which, by its pause id:")
        tables.show(
            ("PAUSE ID", "NODE", "REASON"),
            [[safe(p["pause_id"]), safe(p["node_id"] or ""), short(p["failure_reason"], 80)] for p in pauses],
            empty="",
        )
        raise typer.Exit(USAGE)
    return pauses[0]


async def pause_of(client: Client, id: str) -> InboxPause | None:
    """The pause with this id; None where it is the id of something else."""
    from handrail_sdk.client_errors import Problem

    if not _PAUSE_ID.fullmatch(id):
        return None
    try:
        return await client.get_pause(id)
    except Problem as e:
        if e.status == 404:
            return None
        raise
