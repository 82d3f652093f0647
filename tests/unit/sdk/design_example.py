"""The example of DESIGN section 8, as it stands there, with a fake outside world around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from handrail_sdk import Abort, Agent, Context, Fail, Retry, Skip


class Order(BaseModel):
    sku: str
    budget: int = 0
    department: str = ""
    vendor_url: str | None = None


class Placed(BaseModel):
    po: str


@dataclass
class Offer:
    status: int
    sku: str

    def json(self) -> dict[str, Any]:
        return {"error": "SKU_UNAVAILABLE"} if self.status != 200 else {"sku": self.sku}


@dataclass
class Vendors:
    bought: dict[str, str] = field(default_factory=dict)
    cancelled: list[str | None] = field(default_factory=list)

    async def quote(self, sku: str, vendor_url: str | None) -> Offer:
        return Offer(404 if sku == "MBP-OUT-OF-STOCK" and vendor_url is None else 200, sku)

    async def buy(self, offer: Offer, key: str) -> str:
        return self.bought.setdefault(key, f"PO-{len(self.bought) + 1}")

    async def cancel(self, key: str | None) -> None:
        self.cancelled.append(key)


vendors = Vendors()

# fmt: off
hardware = Agent("hardware_procurement_bot")

@hardware.task(retries=3, timeout="30s", effect="idempotent",
               context={"requested_budget": "input.budget", "user_department": "input.department"},
               resolutions=[Skip("RES_SKIP", "Skip Hardware Step"),
                            Retry("RES_MANUAL_SKU", "Provide Custom Vendor Link", sets="vendor_url", schema="url"),
                            Abort("RES_ABORT_SAGA", "Abort and Rollback Onboarding")])
async def order_laptop(order: Order, ctx: Context) -> Placed:
    offer = await vendors.quote(order.sku, order.vendor_url)
    if offer.status != 200:
        raise Fail("SKU_UNAVAILABLE", "All approved vendors returned 404 for requested Macbook Pro SKU.", evidence=offer.json())
    return Placed(po=await vendors.buy(offer, key=ctx.effect_key))

@order_laptop.compensate
async def cancel_order(order: Order, placed: Placed | None, ctx: Context) -> None:
    await vendors.cancel(key=ctx.do_key)          # placed is None when the outcome is unknown
# fmt: on
