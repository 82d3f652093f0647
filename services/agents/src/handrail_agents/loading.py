"""Agents of your own, found by name: `HANDRAIL_AGENTS__LOAD="my_agents, shop.refunds:clerk"`."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from types import ModuleType

from handrail_runtime.errors import Misconfigured
from handrail_sdk.agent import Agent

_VARIABLE = "HANDRAIL_AGENTS__LOAD"


def load(names: str) -> list[Agent]:
    """The agents of `module` (all that it defines) or `module:name`, separated by commas. Modules are looked for in the
    working directory too. Raises Misconfigured where one is not there."""
    found: list[Agent] = []
    for name in (part.strip() for part in names.split(",")):
        if name:
            found += _named(name)
    return list({id(agent): agent for agent in found}.values())


def distinct(agents: list[Agent]) -> list[Agent]:
    """The same agents. Raises Misconfigured where two have one name: their tasks share a topic."""
    twice = [name for name, n in Counter(a.name for a in agents).items() if n > 1]
    if twice:
        raise Misconfigured(f"{_VARIABLE}: Expected each agent once, but several are named {', '.join(sorted(twice))}.")
    return agents


def _named(name: str) -> list[Agent]:
    where, _, what = name.partition(":")
    module = _module(where)
    if what:
        agent = getattr(module, what, None)
        if not isinstance(agent, Agent):
            raise Misconfigured(f"{_VARIABLE}: Expected an Agent named {what!r} in {where!r}, but there is none.")
        return [agent]
    agents = [value for value in vars(module).values() if isinstance(value, Agent)]
    if not agents:
        raise Misconfigured(f"{_VARIABLE}: Expected {where!r} to define an Agent, but it defines none.")
    return agents


def _module(where: str) -> ModuleType:
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(where)
    except (ImportError, ValueError) as e:
        raise Misconfigured(f"{_VARIABLE}: Expected to import {where!r}, but: {e}") from e
