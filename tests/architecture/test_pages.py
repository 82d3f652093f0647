"""Pages that name tests as their proof name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_[a-z0-9_]+)`")
PAGES = [p for p in sorted((ROOT / "docs").rglob("*.md")) if NAMED.search(p.read_text("utf-8"))]


@pytest.fixture(scope="module")
def sources() -> str:
    return "\n".join(p.read_text("utf-8") for p in sorted((ROOT / "tests").rglob("test_*.py")))


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_every_test_that_a_page_names_exists(page: Path, sources: str) -> None:
    assert [n for n in dict.fromkeys(NAMED.findall(page.read_text("utf-8"))) if f"def {n}(" not in sources] == []
