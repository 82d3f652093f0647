"""`tools/setup.sh` with a uv that only writes down what it is asked: what is installed, and when again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = """#!/bin/sh
echo "$*" >>"$UV_LOG"
[ "$1" = venv ] && mkdir -p .venv/bin && ln -sf {python} .venv/bin/python
exit 0
"""


class Checkout:
    """A folder that looks like ours to the script."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "uv.log"
        (folder / "bin").mkdir()
        (folder / "tools").mkdir()
        (folder / "requirements").mkdir()
        shutil.copy(ROOT / "tools" / "setup.sh", folder / "tools")
        (folder / "bin" / "uv").write_text(UV.format(python=sys.executable))
        (folder / "bin" / "uv").chmod(0o755)
        for member in ("libs/a", "services/b", "simulators", "."):
            (folder / member).mkdir(parents=True, exist_ok=True)
            (folder / member / "pyproject.toml").write_text("[project]\n")
        self.lock("one")

    def lock(self, content: str) -> None:
        for name in ("runtime", "dev"):
            (self.folder / "requirements" / f"{name}.txt").write_text(f"{name} {content}\n")

    def setup(self, want: str) -> list[str]:
        """Runs it; answers the locks that were installed."""
        self.log.write_text("")
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "UV_LOG": str(self.log), "PYTHON": sys.executable}
        command = ["sh", str(self.folder / "tools" / "setup.sh"), want]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        return [line.split()[-1] for line in self.log.read_text().splitlines() if line.startswith("pip sync")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("want", ["runtime", "dev"])
def test_a_second_time_installs_nothing_and_a_new_lock_installs_again(checkout: Checkout, want: str) -> None:
    lock = f"requirements/{want}.txt"
    assert checkout.setup(want) == [lock]
    assert checkout.setup(want) == []
    checkout.lock("two")
    assert checkout.setup(want) == [lock]


def test_after_a_pull_the_demo_of_a_developer_has_what_the_new_lock_names(checkout: Checkout) -> None:
    checkout.setup("dev")
    assert checkout.setup("runtime") == [], "dev has all of it"
    checkout.lock("two")
    assert checkout.setup("runtime") == ["requirements/dev.txt"], "and keeps the developer's tools"
    assert checkout.setup("dev") == []
