"""Which faults a seed injects, and how often. Everything is drawn from the seed; every injection is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

CRASHPOINTS = ("K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K12", "K16", "K17", "K18", "K19")
RARE = {"K6": 4, "K9": 8, "K10": 2, "K11": 3, "K12": 8, "K2": 3}
"""Points that are passed seldom strike the more often."""
SLOWEST_S = 0.3
"""No request takes longer one way, in seconds."""
HINTS = ("handrail.tasks.", "handrail.results", "handrail.heartbeats", "handrail.commands", "handrail.dead-letters")
"""Records of these topics may be lost: each is a hint (DESIGN D7). Events may not."""

FAULTS: frozenset[str] = frozenset(
    {
        *CRASHPOINTS,
        *("orchestrator killed", "orchestrator stopped", "orchestrator restarted", "agents killed", "agents stopped"),
        *("agents restarted", "store refused", "commit lost", "answer of a commit lost", "database restarted"),
        *("commit lands late", "commit hangs"),
        *("send failed", "ack lost", "half sent", "record doubled", "record lost", "record late", "bus down"),
        *("bus lost its log", "zombie fenced", "nudge lost", "race lost", "snapshot spoilt"),
    }
)
"""All that must have happened somewhere in a run of many seeds (I16)."""

PLAYED: frozenset[str] = frozenset(
    {
        *(f"gate says {word}" for word in ("always", "uncertain", "never", "forbid")),
        *(f"decided RES_{word}" for word in ("APPROVE", "EDIT", "REJECT", "AMOUNT", "HAND_BACK")),
        *(
            "expired RES_APPROVE",
            "expired RES_REJECT",
            "superseded gate",
            "planned by an agent",
            "effects without a key",
        ),
        *("rolled back a savepoint", "rolled back a subtree", "not happened, it was sworn", "snapshots taken up"),
    }
)
"""And all that people, planners and policies must have done somewhere in it."""


@dataclass
class Faults:
    """The dice of one seed. `on` is turned off when the world heals."""

    rng: Random
    on: bool = True
    aside: Random = field(
        default_factory=lambda: Random(0)
    )  # for what came later: seeds keep the stories that they had
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        r = self.rng
        self.calm = r.random() < 0.08
        rough = 0.0 if self.calm else r.choice((0.3, 1.0, 1.0, 2.0))
        self.crash = r.choice((0.0, 0.004, 0.015, 0.05)) * rough
        self.store = r.choice((0.0, 0.01, 0.04)) * rough
        self.unheard = r.choice((0.0, 0.01, 0.06)) * rough
        self.send = r.choice((0.0, 0.01, 0.06)) * rough
        self.double = r.choice((0.0, 0.05, 0.2)) * rough
        self.lose = r.choice((0.0, 0.03, 0.12)) * rough
        self.late = r.choice((0.0, 0.05, 0.2)) * rough
        self.nemesis = 0.0 if self.calm else r.choice((0.5, 1.0, 2.0))
        self.new_bus = not self.calm and r.random() < 0.15
        self.tardy = 0.0 if self.calm else self.aside.choice((0.0, 0.02, 0.06))
        self.points = set(CRASHPOINTS if r.random() < 0.5 else r.sample(CRASHPOINTS, 3))

    def hit(self, name: str, p: float) -> bool:
        """Whether this fault strikes now."""
        if self.on and p > 0 and self.rng.random() < p:
            self.counts[name] += 1
            return True
        return False

    def crashes(self, point: str) -> bool:
        return point in self.points and self.hit(point, self.crash * RARE.get(point, 1))

    def tardy_commit(self) -> bool:
        """Whether the connection breaks while this commit is under way."""
        return self.on and self.aside.random() < self.tardy

    def latency(self) -> float:
        """Seconds that a request takes one way."""
        r = self.rng.random()
        return 0.0005 + 0.004 * r if r < 0.97 or not self.on else SLOWEST_S * r
