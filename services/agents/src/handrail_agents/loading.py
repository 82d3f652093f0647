"""Agents of your own, found by name: `HANDRAIL_AGENTS__LOAD="my_agents, shop.refunds:clerk"`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections import Counter
from pathlib import Path
from types import ModuleType

from handrail_runtime.errors import Misconfigured
from handrail_sdk import failures
from handrail_sdk.agent import Agent
from handrail_sdk.failures import DefinitionError

_SDK = str(Path(failures.__file__).parent)
_VARIABLE = "HANDRAIL_AGENTS__LOAD"


def load(names: str) -> list[Agent]:
    """The agents of `module` (all that it defines) or `module:name`, separated by commas. Modules are looked for in the
    working directory too. Raises Misconfigured where one is not there, or cannot run as it is written."""
    found: list[Agent] = []
    for name in (part.strip() for part in names.split(",")):
        if name:
            found += _named(name)
    for agent in found:
        for task in agent.tasks.values():
            try:
                task.manifest()
            except DefinitionError as e:
                raise Misconfigured(f"{_VARIABLE}: {e}") from e
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
    except Exception as e:  # somebody's module may raise anything, and they are to be told where
        said = str(e) if isinstance(e, (ImportError, ValueError, DefinitionError)) else f"{type(e).__name__}: {e}"
        raise Misconfigured(f"{_VARIABLE}: Expected to import {where!r}, but{_at(e)}: {said}") from e


def _at(e: Exception) -> str:
    """Where in a module of one's own it happened: the last place that is neither the import's nor the SDK's."""
    if isinstance(e, SyntaxError):
        return f" at {e.filename}:{e.lineno}"
    frames = traceback.extract_tb(e.__traceback__)
    own = [
        f
        for f in frames
        if f.filename != __file__ and not f.filename.startswith((_SDK, "<frozen")) and "importlib" not in f.filename
    ]
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
