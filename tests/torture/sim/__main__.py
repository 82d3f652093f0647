"""`python -m tests.torture.sim --seeds 5000 --first 1 --jobs 2`: plays seeds, prints what was injected and what broke."""

from __future__ import annotations

import argparse
import sys
import time

from tests.torture.sim.play import play, report
from tests.torture.sim.simulation import simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (default 200)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--show", action="store_true", help="print the journals too")
    o = parser.parse_args()
    began = time.monotonic()
    outcomes = play(range(o.first, o.first + o.seeds), 1 if o.seeds < 8 else o.jobs)
    print(report(outcomes, time.monotonic() - began))
    print("history hash of the first and the last seed: " + ", ".join(x.digest for x in (outcomes[0], outcomes[-1])))
    broken = [x for x in outcomes if x.violations]
    if o.show:
        for x in outcomes:
            _show(x.seed)
    return 1 if broken else 0


def _show(seed: int) -> None:
    for r in simulate(seed).history.journal:
        d = r.data
        said = {k: d[k] for k in ("node_id", "from", "to", "attempt", "pause_id", "action_id", "outcome") if k in d}
        print(
            f"{r.at_ms % 10_000_000:>8} {r.trace_id} {r.seq:>3} p{r.p}/{r.pseq:<3} {r.type} {said} {r.meta or ''} {r.causation}"
        )


if __name__ == "__main__":
    sys.exit(main())
