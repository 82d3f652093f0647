"""For users of Handrail: write agents and workflows, start and watch them.

Names are loaded when first used, so that an agent does not pay for the HTTP client, nor a client for the agents.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handrail_sdk.agent import Agent as Agent
    from handrail_sdk.client import Client as Client
    from handrail_sdk.client_errors import ClientError as ClientError
    from handrail_sdk.client_errors import Problem as Problem
    from handrail_sdk.client_errors import Unreachable as Unreachable
    from handrail_sdk.context import Context as Context
    from handrail_sdk.failures import DefinitionError as DefinitionError
    from handrail_sdk.failures import Escalated as Escalated
    from handrail_sdk.failures import Fail as Fail
    from handrail_sdk.failures import Proposed as Proposed
    from handrail_sdk.options import Proposal as Proposal
    from handrail_sdk.resolutions import Abort as Abort
    from handrail_sdk.resolutions import Retry as Retry
    from handrail_sdk.resolutions import Skip as Skip
    from handrail_sdk.task import TaskDefinition as TaskDefinition
    from handrail_sdk.workflow import Workflow as Workflow

_HOMES = {
    "Abort": "resolutions",
    "Agent": "agent",
    "Client": "client",
    "ClientError": "client_errors",
    "Context": "context",
    "DefinitionError": "failures",
    "Escalated": "failures",
    "Fail": "failures",
    "Problem": "client_errors",
    "Proposal": "options",
    "Proposed": "failures",
    "Retry": "resolutions",
    "Skip": "resolutions",
    "TaskDefinition": "task",
    "Unreachable": "client_errors",
    "Workflow": "workflow",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
