"""The peers' environments: made once in this user's cache, versions pinned, nothing installed for the system."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESTATE = "1.7.12"
PYTHON: dict[str, tuple[str, ...]] = {
    "restate": ("restate_sdk[serde]==1.3.0", "hypercorn==0.18.0", "uvloop==0.23.0"),
    "langgraph": (
        "langgraph==1.2.22",
        "langgraph-checkpoint-postgres==3.2.0",
        "psycopg[binary,pool]==3.3.9",
        "uvloop==0.23.0",
        "psutil",
    ),
    "dbos": ("dbos==3.4.0", "psycopg[binary]==3.3.9", "uvloop==0.23.0", "psutil"),
}


class PeerUnavailable(Exception):
    """A peer cannot be run here; one sentence why."""


def cache() -> Path:
    """Where they are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "handrail" / "peers"


async def python_of(peer: str) -> Path:
    """The peer's interpreter, its packages installed: the same Python that runs us. Raises PeerUnavailable."""
    venv = cache() / f"{peer}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = venv / "bin" / "python"
    done = venv / "installed"
    wanted = "\n".join(PYTHON[peer])
    if done.exists() and done.read_text() == wanted:
        return python
    uv = shutil.which("uv") or str(ROOT / ".tools" / "uv" / "bin" / "uv")
    print(f"# installing {peer} into {venv}", flush=True)
    await run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
    await run([uv, "pip", "install", "--quiet", "--python", str(python), *PYTHON[peer]])
    done.write_text(wanted)
    return python


async def restate_server() -> Path:
    """Restate's server, from its npm package. Raises PeerUnavailable."""
    machine = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
    system = "darwin" if sys.platform == "darwin" else "linux"
    home = cache() / f"restate-{RESTATE}"
    program = home / f"node_modules/@restatedev/restate-server-{system}-{machine}/bin/restate-server"
    if not program.exists():
        if shutil.which("npm") is None:
            raise PeerUnavailable("Expected npm to fetch Restate's server, but found none on the PATH.")
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"private": true}')
        print(f"# installing Restate {RESTATE} into {home}", flush=True)
        await run(["npm", "install", "--silent", "--prefix", str(home), f"@restatedev/restate-server@{RESTATE}"])
    if not program.exists():
        raise PeerUnavailable(f"Expected a build of Restate's server for this machine, but {program} is not there.")
    return program


async def run(command: list[str], within: Path | None = None) -> str:
    """What it printed, trimmed. Raises PeerUnavailable with the end of that where it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=within, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    text = told.decode(errors="replace").strip()
    if process.returncode:
        raise PeerUnavailable(f"Expected {command[0]} to succeed, but: {text[-300:]}")
    return text
