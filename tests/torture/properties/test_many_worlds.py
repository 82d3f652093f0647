"""The properties of the engine over many more worlds than `make test` has time for; larger plans too."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from unit.engine import gate_properties
from unit.engine.checks import Broken
from unit.engine.gated_world import GatedWorld
from unit.engine.properties import verdicts
from unit.engine.world import World

SEEDS = int(os.environ.get("HANDRAIL_PROPERTY_SEEDS", "8000"))
FIRST = int(os.environ.get("HANDRAIL_PROPERTY_FIRST_SEED", "1000000"))
pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(("size", "share"), [(None, 1.0), (30, 0.05), (80, 0.01)])
def test_every_property_holds_in_many_worlds(size: int | None, share: float) -> None:
    _all_hold(lambda seed: verdicts(World(seed, size).run()), size, share)


@pytest.mark.parametrize(("size", "share"), [(None, 0.4), (30, 0.02)])
def test_every_promise_of_gates_holds_in_many_worlds(size: int | None, share: float) -> None:
    _all_hold(lambda seed: gate_properties.verdicts(GatedWorld(seed, size).run()), size, share)


def _all_hold(fallen_in: Callable[[int], set[str]], size: int | None, share: float) -> None:
    broken: Counter[str] = Counter()
    first: dict[str, str] = {}
    seeds = int(SEEDS * share)
    for seed in range(FIRST, FIRST + seeds):
        try:
            fallen = fallen_in(seed)
        except Broken as e:
            fallen = {e.name}
        for name in fallen:
            broken[name] += 1
            first.setdefault(name, f"seed {seed}")
    assert not broken, (size, broken, first)
    print(f"{seeds} worlds of size {size or 'any'} from seed {FIRST}: no property failed")
