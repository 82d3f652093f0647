"""A shop that pays money back."""

from __future__ import annotations

from typing import Any

from handrail_simulators.answers import number
from handrail_simulators.caller import Caller
from handrail_simulators.effects import Ledger


class Shop:
    """Refunds of orders."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def refund(self, order_id: str, amount: float, *, by: Caller) -> dict[str, Any]:
        """Pays back: {refund_id, order_id, amount}. Once per effect key; nothing takes it back."""
        paid = {"refund_id": number("R", by.effect_key), "order_id": order_id, "amount": amount}
        return await self._ledger.do(by, paid)
