"""Handrail: `from handrail import Agent, Client`. Everything here is the SDK's; a name is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handrail_sdk import Abort as Abort
    from handrail_sdk import Agent as Agent
    from handrail_sdk import Client as Client
    from handrail_sdk import ClientError as ClientError
    from handrail_sdk import Context as Context
    from handrail_sdk import DefinitionError as DefinitionError
    from handrail_sdk import Escalated as Escalated
    from handrail_sdk import Fail as Fail
    from handrail_sdk import Problem as Problem
    from handrail_sdk import Proposal as Proposal
    from handrail_sdk import Proposed as Proposed
    from handrail_sdk import Retry as Retry
    from handrail_sdk import Skip as Skip
    from handrail_sdk import TaskDefinition as TaskDefinition
    from handrail_sdk import Unreachable as Unreachable
    from handrail_sdk import Workflow as Workflow

_PUBLIC = (
    "Abort",
    "Agent",
    "Client",
    "ClientError",
    "Context",
    "DefinitionError",
    "Escalated",
    "Fail",
    "Problem",
    "Proposal",
    "Proposed",
    "Retry",
    "Skip",
    "TaskDefinition",
    "Unreachable",
    "Workflow",
)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("handrail_sdk"), name)


def __dir__() -> list[str]:
    return [*_PUBLIC]
