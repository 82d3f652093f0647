"""The properties of the engine over many more worlds than `make test` has time for; larger plans too."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from unit.engine.checks import Broken
from unit.engine.properties import verdicts
from unit.engine.world import World

SEEDS = int(os.environ.get("HANDRAIL_PROPERTY_SEEDS", "12000"))
FIRST = int(os.environ.get("HANDRAIL_PROPERTY_FIRST_SEED", "1000000"))
pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


def test_every_property_holds_in_many_worlds() -> None:
    broken: Counter[str] = Counter()
    first: dict[str, str] = {}
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            fallen = verdicts(World(seed).run())
        except Broken as e:
            fallen = {e.name}
        for name in fallen:
            broken[name] += 1
            first.setdefault(name, f"seed {seed}")
    assert not broken, (broken, first)
    print(f"{SEEDS} worlds from seed {FIRST}: no property failed")
