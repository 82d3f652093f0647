"""The example of DESIGN section 8 does what it says."""

from __future__ import annotations

import pytest
from tests.unit.sdk import design_example
from tests.unit.sdk.design_example import Order, Vendors, hardware, order_laptop

from handrail_contracts.plan import EffectClass
from handrail_sdk import Fail
from handrail_sdk.testing import call, context, undo


@pytest.fixture(autouse=True)
def vendors(monkeypatch: pytest.MonkeyPatch) -> Vendors:
    fresh = Vendors()
    monkeypatch.setattr(design_example, "vendors", fresh)
    return fresh


async def test_an_order_is_placed_under_the_effect_key(vendors: Vendors) -> None:
    ctx = context(order_laptop, trace_id="t", node_id="n")
    assert await call(order_laptop, Order(sku="MBP-16"), ctx) == {"po": "PO-1"}
    assert await call(order_laptop, {"sku": "MBP-16"}, ctx) == {"po": "PO-1"}
    assert vendors.bought == {"default/t/n/0": "PO-1"}


async def test_what_no_vendor_has_fails_definitely_with_what_they_said(vendors: Vendors) -> None:
    with pytest.raises(Fail) as failed:
        await call(order_laptop, Order(sku="MBP-OUT-OF-STOCK"))
    failure = failed.value.failure()
    assert failure.code == "SKU_UNAVAILABLE"
    assert failure.message == "All approved vendors returned 404 for requested Macbook Pro SKU."
    assert failure.evidence == {"error": "SKU_UNAVAILABLE"}
    assert failure.retryable
    assert vendors.bought == {}


async def test_the_vendor_that_a_person_names_is_asked(vendors: Vendors) -> None:
    order = Order(sku="MBP-OUT-OF-STOCK", vendor_url="https://vendor.example/mbp16")
    assert await call(order_laptop, order) == {"po": "PO-1"}


async def test_the_undo_knows_what_it_undoes(vendors: Vendors) -> None:
    await undo(order_laptop, Order(sku="MBP-16"), {"po": "PO-1"}, trace_id="t", node_id="n")
    await undo(order_laptop, Order(sku="MBP-16"), None, trace_id="t", node_id="m")
    assert vendors.cancelled == ["default/t/n/0", "default/t/m/0"]


def test_the_manifest_says_what_was_declared() -> None:
    assert hardware.tasks == {"order_laptop": order_laptop}
    manifest = order_laptop.manifest()
    assert order_laptop.effect is EffectClass.IDEMPOTENT
    assert manifest["retry"] == {"max_attempts": 3}
    assert manifest["timeouts"] == {"start_to_close_s": 30.0}
    assert manifest["effect_class"] == "idempotent"
    assert manifest["compensatable"] is True
    assert manifest["context"] == {"requested_budget": "input.budget", "user_department": "input.department"}
    assert manifest["resolutions"] == [
        {
            "action_id": "RES_SKIP",
            "display_text": "Skip Hardware Step",
            "requires_input": False,
            "style": "neutral",
            "kind": "skip",
        },
        {
            "action_id": "RES_MANUAL_SKU",
            "display_text": "Provide Custom Vendor Link",
            "requires_input": True,
            "input_schema": "url",
            "style": "primary",
            "kind": "retry",
            "sets": "vendor_url",
        },
        {
            "action_id": "RES_ABORT_SAGA",
            "display_text": "Abort and Rollback Onboarding",
            "requires_input": False,
            "style": "danger",
            "kind": "compensate",
        },
    ]
    assert manifest["input_schema"]["required"] == ["sku"]
    assert manifest["output_schema"]["properties"] == {"po": {"title": "Po", "type": "string"}}
