"""Reads policies from the package and from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from handrail_contracts.policy import Policy
from handrail_orchestrator.application.ruling import PolicySource
from handrail_runtime.errors import Misconfigured


def policy_files(folder: Path | None) -> Iterator[PolicySource]:
    """The package's own policies, then those of `folder` (*.yaml, *.yml, *.json). Raises Misconfigured on one that is no
    policy."""
    own = resources.files("handrail_orchestrator").joinpath("policies")
    for entry in sorted(own.iterdir(), key=lambda e: e.name):
        if entry.name.endswith((".yaml", ".yml")):
            yield _read(entry.name, entry.read_text("utf-8"))
    if folder is not None:
        if not folder.is_dir():
            raise Misconfigured(
                f"Expected HANDRAIL_ORCHESTRATOR__POLICIES_DIR to name a folder, but {str(folder)!r} is none."
            )
        for path in sorted(folder.iterdir()):
            if path.suffix in (".yaml", ".yml", ".json"):
                yield _read(str(path), path.read_text("utf-8"))


def _read(where: str, text: str) -> PolicySource:
    try:
        return PolicySource(where, Policy.model_validate(yaml.safe_load(text)))
    except (yaml.YAMLError, ValidationError) as e:
        first = str(e).splitlines()[0:4]
        raise Misconfigured(f"Expected a policy in {where}, but: {' '.join(first)[:400]}") from e
