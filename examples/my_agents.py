"""Two agents of your own. Run them in the demo: `HANDRAIL_AGENTS__LOAD=examples.my_agents make demo`, then see the guide
"Write an agent" (docs/howto/write-an-agent.md)."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from handrail import Abort, Agent, Context, Fail, Retry, Skip

PRICES = {"alpha": {"MBP-16": 2400}, "beta": {"MBP-16": 2350, "XPS-13": 1400}}
"""Plays the shops of the outside world."""

scout = Agent("scout")
buyer = Agent("buyer", max_in_flight=2)


class Wish(BaseModel):
    sku: str


class Quote(BaseModel):
    vendor: str
    price: int


class Order(BaseModel):
    sku: str
    vendor: str


class Placed(BaseModel):
    po: str


@scout.task(description="Asks every vendor that may have it: one step each, added while the workflow runs.")
async def find_vendors(wish: Wish, ctx: Context) -> list[str]:
    for vendor in PRICES:
        ctx.add_node(f"quote_{vendor}", "scout.quote", {"sku": wish.sku, "vendor": vendor}, optional=True)
    return list(PRICES)


@scout.task(retries=2, delay="200ms")
async def quote(order: Order, ctx: Context) -> Quote:
    price = PRICES[order.vendor].get(order.sku)
    if price is None:
        raise Fail("NOT_SOLD_HERE", f"{order.vendor} does not sell it.", evidence={"status": 404}, retryable=False)
    return Quote(vendor=order.vendor, price=price)


@buyer.task(
    retries=3,
    timeout="30s",
    effect="idempotent",
    resolutions=[
        Skip("RES_SKIP", "Buy nothing"),
        Retry("RES_VENDOR", "Name another vendor", sets="vendor", schema="text"),
        Abort("RES_ABORT_SAGA", "Undo everything"),
    ],
)
async def buy(order: Order, ctx: Context) -> Placed:
    ctx.progress(50, f"asking {order.vendor}")
    await asyncio.sleep(0.2)
    if order.sku not in PRICES.get(order.vendor, {}):
        raise Fail("SKU_UNAVAILABLE", f"{order.vendor} does not have it.", evidence={"status": 404, "sku": order.sku})
    return Placed(po=f"PO-{ctx.effect_key.rsplit('/', 2)[-2]}")  # give the key itself to a provider that knows keys


@buy.compensate
async def cancel(order: Order, placed: Placed | None, ctx: Context) -> None:
    ctx.log.info("order cancelled")  # `placed` is None where it is unknown whether there was one
