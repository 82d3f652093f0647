"""Plays many seeds over several processes, and tells what was injected and what broke."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.torture.sim.faults import FAULTS
from tests.torture.sim.simulation import Outcome, simulate


def _short(seed: int) -> Outcome:
    outcome = simulate(seed)
    outcome.history = None  # type: ignore[assignment]  not for the way between processes
    return outcome


def play(seeds: Iterable[int], jobs: int) -> list[Outcome]:
    """Plays all, over `jobs` processes; in order of the seeds."""
    wanted = list(seeds)
    if jobs <= 1:
        return [_short(s) for s in wanted]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_short, wanted, chunksize=4))


def report(outcomes: list[Outcome], took_s: float) -> str:
    """What was played, what was injected, what broke."""
    faults: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for o in outcomes:
        faults.update(o.faults)
        totals.update(o.totals)
    lines = [f"{len(outcomes)} seeds in {took_s:.1f} s: {len(outcomes) / max(took_s, 0.001):.1f} seeds/s"]
    lines.append("played: " + ", ".join(f"{n:,} {k}" for k, n in sorted(totals.items())))
    lines.append("injected: " + ", ".join(f"{faults[k]:,} {k}" for k in sorted(faults)))
    if never := sorted(FAULTS - set(faults)):
        lines.append("never injected: " + ", ".join(never))
    for o in outcomes:
        if o.violations:
            lines += [f"seed {o.seed} broke (again: {o.again})", *(f"    {v}" for v in o.violations[:8])]
    return "\n".join(lines)
