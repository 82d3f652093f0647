"""Reads blueprints from the package and from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from handrail_contracts.blueprint import Blueprint
from handrail_orchestrator.application.planning import Source
from handrail_runtime.errors import Misconfigured


def blueprint_files(folder: Path | None) -> Iterator[Source]:
    """The package's own blueprints, then those of `folder` (*.yaml, *.yml). Raises Misconfigured on one that is no blueprint."""
    for entry in sorted(
        resources.files("handrail_orchestrator").joinpath("blueprints").iterdir(), key=lambda e: e.name
    ):
        if entry.name.endswith((".yaml", ".yml")):
            yield _read(entry.name, entry.read_text("utf-8"))
    if folder is not None:
        if not folder.is_dir():
            raise Misconfigured(
                f"Expected HANDRAIL_ORCHESTRATOR__BLUEPRINTS_DIR to name a folder, but {str(folder)!r} is none."
            )
        for path in sorted(folder.iterdir()):
            if path.suffix in (".yaml", ".yml"):
                yield _read(str(path), path.read_text("utf-8"))


def _read(where: str, text: str) -> Source:
    try:
        return Source(where, Blueprint.model_validate(yaml.safe_load(text)))
    except (yaml.YAMLError, ValidationError) as e:
        first = str(e).splitlines()[0:3]
        raise Misconfigured(f"Expected a blueprint in {where}, but: {' '.join(first)[:300]}") from e
