"""Mailboxes, and the mail that welcomes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_sdk.failures import Fail
from handrail_simulators import World

FAILING = "email"
"""The value of `fail_compensation` that makes the undo of a mailbox fail."""


class NewMailbox(BaseModel):
    """Whose mailbox. With `fail_compensation: "email"` the provider refuses to delete it, for demonstrations."""

    employee: str = Field(min_length=1, max_length=200)
    fail_compensation: str | None = None


class Mailbox(BaseModel):
    """An open mailbox."""

    address: str


class Welcome(BaseModel):
    """Whom to welcome, and what there is to tell: the address, and the laptop's order if there is one."""

    employee: str
    address: str | None = None
    laptop: dict[str, Any] | None = None


class Sent(BaseModel):
    """A mail on its way."""

    message_id: str
    to: str
    subject: str


def mailbox_bot(world: World, pace: Pace) -> Agent:
    """The agent of the mail system."""
    agent = Agent("mailbox_bot")

    @agent.task(timeout="30s", effect="idempotent", **QUICK_RETRIES)
    async def create_mailbox(new: NewMailbox, ctx: Context) -> Mailbox:
        """Opens a mailbox."""
        await pace.breath()
        return Mailbox.model_validate(await world.mailboxes.create(new.employee, by=ctx))

    @create_mailbox.compensate
    async def delete_mailbox(new: NewMailbox, mailbox: Mailbox | None, ctx: Context) -> None:
        await pace.breath()
        if new.fail_compensation == FAILING:
            raise Fail(
                "MAILBOX_LOCKED",
                "The mail provider refuses to delete the mailbox: it is under a retention hold.",
                evidence={"error": "MAILBOX_LOCKED", "address": mailbox.address if mailbox else None},
            )
        await world.mailboxes.remove(by=ctx)

    @agent.task(timeout="30s", effect="idempotent", **QUICK_RETRIES)
    async def send_welcome(welcome: Welcome, ctx: Context) -> Sent:
        """Sends the welcome mail. Nothing takes a mail back."""
        await pace.breath()
        to = welcome.address or welcome.employee
        subject = f"Welcome, {welcome.employee}" + (": your laptop is on its way" if welcome.laptop else "")
        return Sent.model_validate(await world.mailboxes.send(to, subject, by=ctx))

    return agent
