"""Buying hardware: three approved vendors, or the one that a person names."""

from __future__ import annotations

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_sdk.failures import Fail
from handrail_sdk.resolutions import Abort, Retry, Skip
from handrail_simulators import World
from handrail_simulators.vendors import APPROVED, Offer


class Order(BaseModel):
    """What to buy, and for whom. `vendor_url` is set by a person; only that vendor is asked then."""

    sku: str = Field(min_length=1, max_length=100)
    budget: float | None = None
    department: str | None = None
    vendor_url: str | None = None


class Placed(BaseModel):
    """An order that stands."""

    po: str
    vendor: str
    sku: str
    price: int


def hardware_procurement_bot(world: World, pace: Pace) -> Agent:
    """The agent of the purchasing department."""
    hardware = Agent("hardware_procurement_bot")
    vendors = world.vendors

    async def quote(order: Order, ctx: Context) -> Offer:
        if order.vendor_url:
            ctx.progress(50, "Asking the vendor that a person named.")
            return await vendors.quote(order.sku, order.vendor_url)
        offer = await vendors.ask(APPROVED[0], order.sku)
        for n, vendor in enumerate(APPROVED[1:], 2):
            if offer.status == 200:
                break
            ctx.progress(100 * n / (len(APPROVED) + 1), f"{offer.vendor} answered {offer.status}, asking {vendor}.")
            offer = await vendors.ask(vendor, order.sku)
        return offer

    @hardware.task(
        timeout="30s",
        effect="idempotent",
        context={"requested_budget": "input.budget", "user_department": "input.department"},
        resolutions=[
            Skip("RES_SKIP", "Skip Hardware Step"),
            Retry("RES_MANUAL_SKU", "Provide Custom Vendor Link", sets="vendor_url", schema="url"),
            Abort("RES_ABORT_SAGA", "Abort and Rollback Onboarding"),
        ],
        **QUICK_RETRIES,
    )
    async def order_laptop(order: Order, ctx: Context) -> Placed:
        """Orders a laptop from the first vendor that has it."""
        await pace.breath()
        offer = await quote(order, ctx)
        if offer.status != 200:
            raise Fail(
                "SKU_UNAVAILABLE",
                "All approved vendors returned 404 for requested Macbook Pro SKU.",
                evidence=offer.json(),
            )
        return Placed.model_validate(await vendors.buy(offer, by=ctx))

    @order_laptop.compensate
    async def cancel_order(order: Order, placed: Placed | None, ctx: Context) -> None:
        await pace.breath()
        await vendors.cancel(by=ctx)

    return hardware
