"""An older version of this project beside the one that is here: a clone with what it needs installed."""

from __future__ import annotations

import asyncio
from pathlib import Path

ROOT = Path(__file__).parents[1]


class OlderUnavailable(RuntimeError):
    """It cannot be had; says what the failing command said."""


async def checked_out(revision: str, folder: Path) -> Path:
    """A clone at that revision, with its own packages in its own `.venv`. Raises OlderUnavailable."""
    tree = folder / "old"
    await _said("git", "clone", "-q", str(ROOT), str(tree))
    await _said("git", "checkout", "-q", revision, within=tree)
    named = await _said("git", "log", "-1", "--format=%h %s", within=tree)
    print(f"old: {named.strip()}; installing what it needs", flush=True)
    await _said("make", "setup", within=tree)
    return tree


async def _said(*command: str, within: Path = ROOT) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=within, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    if process.returncode:
        said = told.decode(errors="replace")[-2000:]
        raise OlderUnavailable(f"Expected `{' '.join(command)}` to work, but: {said}")
    return told.decode(errors="replace")
