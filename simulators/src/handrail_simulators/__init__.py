"""Vendor, personnel office, mailbox, payroll and bank, played deterministically, with a durable ledger of effects.

They behave like providers with idempotency keys, and keep their own time and tables (schema `simulators`), so that anyone
can compare what Handrail says with what really happened.
"""

from __future__ import annotations

from handrail_simulators.caller import Caller
from handrail_simulators.effects import Ledger, Withdrawn, ledger
from handrail_simulators.schema import ensure
from handrail_simulators.world import World

__all__ = ["Caller", "Ledger", "Withdrawn", "World", "ensure", "ledger"]
