"""The systems of a company's office: personnel records, mailboxes, payroll."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from handrail_simulators.answers import number
from handrail_simulators.caller import Caller
from handrail_simulators.effects import Ledger

DOMAIN = "company.example"


class Hr:
    """Personnel records."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def create(self, employee: str, department: str, *, by: Caller) -> dict[str, Any]:
        """Opens a record: {employee_id, employee, department}. Once per effect key."""
        record = {"employee_id": number("E", by.effect_key), "employee": employee, "department": department}
        return await self._ledger.do(by, record)

    async def remove(self, *, by: Caller) -> bool:
        """Takes the record of `by.do_key` back; False where there is none. Idempotent."""
        return await self._ledger.undo(by)


class Mailboxes:
    """Mailboxes, and mail."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def create(self, employee: str, *, by: Caller) -> dict[str, Any]:
        """Opens a mailbox: {address}. Once per effect key."""
        return await self._ledger.do(by, {"address": address(employee)})

    async def remove(self, *, by: Caller) -> bool:
        """Deletes the mailbox of `by.do_key`; False where there is none. Idempotent."""
        return await self._ledger.undo(by)

    async def send(self, to: str, subject: str, *, by: Caller) -> dict[str, Any]:
        """Sends a mail: {message_id, to, subject}. Once per effect key; nothing takes it back."""
        return await self._ledger.do(by, {"message_id": number("M", by.effect_key), "to": to, "subject": subject})


class Payroll:
    """Who is paid."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def enroll(self, employee: str, *, by: Caller) -> dict[str, Any]:
        """Puts an employee on the payroll: {payroll_id, employee}. Once per effect key."""
        return await self._ledger.do(by, {"payroll_id": number("P", by.effect_key), "employee": employee})

    async def withdraw(self, *, by: Caller) -> bool:
        """Takes off the payroll what `by.do_key` put there; False where there is nothing. Idempotent."""
        return await self._ledger.undo(by)


def address(employee: str) -> str:
    """The mail address of an employee: plain letters and digits, words joined by dots."""
    plain = unicodedata.normalize("NFKD", employee).encode("ascii", "ignore").decode().casefold()
    return f"{'.'.join(re.findall(r'[a-z0-9]+', plain)) or 'employee'}@{DOMAIN}"
