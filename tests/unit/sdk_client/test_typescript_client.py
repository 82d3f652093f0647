"""The TypeScript client and the console: the schemas are those of contracts, and their own tests pass where Node.js is."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from handrail_sdk.client import Client

CLIENTS = Path(__file__).parents[3] / "clients"
TYPESCRIPT = CLIENTS / "typescript"


def test_the_schemas_are_those_of_contracts() -> None:
    now = runpy.run_path(str(TYPESCRIPT / "scripts" / "schemas.py"))["document"]()
    kept = json.loads((TYPESCRIPT / "schemas.json").read_text())
    assert kept == now, "contracts have changed: see the head of clients/typescript/scripts/schemas.py"


def test_both_clients_can_do_the_same() -> None:
    """Every public method, under the same name; beside what only one of the languages has a use for."""
    of_browsers = {"watch_many", "workflow", "live_inbox"}
    of_python = {"close"}
    sources = "".join((TYPESCRIPT / "src" / name).read_text() for name in ("client.ts", "desk.ts"))
    methods = re.findall(r"^  (?:async |get )?\*?([a-z]\w*)\(.*\{$|^  ([a-z]\w*)\($", sources, re.MULTILINE)
    there = {re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", a or b) for a, b in methods} - {"constructor"}
    here = {name for name, _ in inspect.getmembers(Client) if not name.startswith("_")}
    assert here - of_python == there - of_browsers


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((CLIENTS / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "://" in entry.get("resolved", "")]


@pytest.mark.parametrize("workspace", ["typescript", "console"])
@pytest.mark.parametrize("command", [["run", "check"], ["test"]], ids=["types", "tests"])
def test_client_and_console_pass_their_own_tests(command: list[str], workspace: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js is not installed")
    if not (CLIENTS / "node_modules" / "vitest").exists():
        pytest.skip("the TypeScript client's packages are not installed: npm ci --prefix clients")
    shown = subprocess.run(
        [npm, *command, "--workspace", workspace],
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-2000:]
