"""A property counts only if it can fail: mutants are planted into the engine, and each must be killed by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

import pytest

from unit.engine.checks import Broken

WORLDS = 1_500


def kill(fallen_in: Callable[[int], set[str]], killer: str, names: Collection[str]) -> None:
    """Plays worlds until the property `killer` falls; the mutant is planted already. `fallen_in` plays a seed and names the
    properties that do not hold there. Fails when it never falls, and says which others did."""
    assert killer in names
    others: Counter[str] = Counter()
    for seed in range(WORLDS):
        try:
            fallen = fallen_in(seed)
        except Broken as e:
            fallen = {e.name}
        except Exception as e:  # noqa: BLE001  a mutant may also make the engine refuse its own rows
            fallen = {type(e).__name__}
        if killer in fallen:
            return
        others.update(fallen)
    pytest.fail(f"{killer} did not fail; others: {others}")
