"""Commands over this version of the project and an older one: `--old` says which, and both are there while they work."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.peers.environment import ROOT, PeerUnavailable, run

Work = Callable[[argparse.Namespace, Path, Path], Awaitable[int]]


def command(parser: argparse.ArgumentParser, work: Work) -> int:
    """Parses, then awaits `work` with what was said, the older version's tree and a folder for the time of it. Answers what
    `work` does, or 2 when the older version cannot be had."""
    parser.add_argument(
        "--old", required=True, metavar="REVISION", help="the older version: anything that git can check out"
    )
    return asyncio.run(_with_both(parser.parse_args(), work))


async def _with_both(said: argparse.Namespace, work: Work) -> int:
    with tempfile.TemporaryDirectory(prefix="handrail-older-") as made:
        try:
            tree = await _checked_out(said.old, Path(made))
        except PeerUnavailable as e:
            print(e, file=sys.stderr)
            return 2
        return await work(said, tree, Path(made))


async def _checked_out(revision: str, folder: Path) -> Path:
    """A clone at that revision, with its own packages in its own `.venv`."""
    tree = folder / "old"
    await run(["git", "clone", "-q", str(ROOT), str(tree)])
    await run(["git", "checkout", "-q", revision], within=tree)
    named = await run(["git", "log", "-1", "--format=%h %s"], within=tree)
    print(f"old: {named}; installing what it needs", flush=True)
    await run(["make", "setup"], within=tree)
    return tree
