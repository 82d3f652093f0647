"""The page of rules names tests that exist, and every property stands on it."""

from __future__ import annotations

import re
from pathlib import Path

from unit.engine.gate_properties import names
from unit.engine.properties import PROPERTIES

HERE = Path(__file__).parent
PAGE = (HERE.parents[2] / "docs" / "explanation" / "saga-rules.md").read_text("utf-8")


def test_every_test_named_on_the_page_exists() -> None:
    sources = "\n".join(p.read_text("utf-8") for p in HERE.parents[1].rglob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE))
    assert len(named) > 20
    assert [n for n in sorted(named) if f"def {n}(" not in sources] == []


def test_every_property_named_on_the_page_exists() -> None:
    named = {n for n in re.findall(r"\*([a-z_]+)\*", PAGE) if "_" in n}
    assert sorted(named - set(names())) == []
    assert len(named & set(PROPERTIES)) > 25
