"""What stops a service, as a tree:

    RuntimeFault
    ├── Misconfigured   a person must change a setting; exit 78
    └── PartEnded       a part of a service ended that should not have; exit 1

The bus has its own tree in `ports.py` (`BusError`), whose `transient` says whether the same call may work later.
"""

from __future__ import annotations

EXIT_MISCONFIGURED = 78
"""sysexits.h EX_CONFIG: a supervisor should not restart us before somebody changed something."""


class RuntimeFault(Exception):
    """Root of what the shell itself raises."""


class Misconfigured(RuntimeFault):
    """The settings or the surroundings (topics, clock, schema) do not fit. The message is one plain line: what, where,
    how to fix it. `serve` prints it and exits with 78."""


class PartEnded(RuntimeFault):
    """A task that was to run until stop has returned."""
