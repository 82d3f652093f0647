"""The outside world, as the agents of the catalog see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from handrail_simulators.bank import Bank
from handrail_simulators.effects import Ledger
from handrail_simulators.office import Hr, Mailboxes, Payroll
from handrail_simulators.shop import Shop
from handrail_simulators.vendors import Vendors

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]


class World:
    """Every simulated provider of one tenant, on one ledger. `schema.ensure(pool)` must have run before the first call."""

    def __init__(self, pool: Pool, tenant: str) -> None:
        self.ledger = Ledger(pool, tenant)
        self.vendors = Vendors(self.ledger)
        self.hr = Hr(self.ledger)
        self.mailboxes = Mailboxes(self.ledger)
        self.payroll = Payroll(self.ledger)
        self.bank = Bank(pool, tenant)
        self.shop = Shop(self.ledger)
