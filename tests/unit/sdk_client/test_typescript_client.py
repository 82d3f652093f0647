"""The TypeScript client and the console: the schemas are those of contracts, and their own tests pass where Node.js is."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[3] / "clients"
TYPESCRIPT = CLIENTS / "typescript"


def test_the_schemas_are_those_of_contracts() -> None:
    now = runpy.run_path(str(TYPESCRIPT / "scripts" / "schemas.py"))["document"]()
    kept = json.loads((TYPESCRIPT / "schemas.json").read_text())
    assert kept == now, "contracts have changed: see the head of clients/typescript/scripts/schemas.py"


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
