"""`from handrail import …`: what users import, and that importing costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import handrail
import handrail_sdk
import handrail_sdk.testing
from handrail import testing


def test_every_public_name_is_the_one_of_the_sdk() -> None:
    for name in dir(handrail):
        assert getattr(handrail, name) is getattr(handrail_sdk, name)


def test_nothing_that_the_sdk_offers_is_left_out() -> None:
    assert set(dir(handrail)) == set(handrail_sdk._HOMES)
    for name in testing.__all__:
        assert getattr(testing, name) is getattr(handrail_sdk.testing, name)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        handrail.Nonsense  # noqa: B018  # the look itself raises


@pytest.mark.parametrize("code", ["import handrail", "import handrail.cli.main", "from handrail import Fail"])
def test_importing_loads_no_client_no_driver_and_no_service(code: str) -> None:
    heavy = ("httpx2", "asyncpg", "aiokafka", "redis", "fastapi", "sqlalchemy", "handrail_gateway", "handrail_store")
    check = f"{code}\nimport sys\nprint([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
