"""Prints the JSON Schemas of contracts as an OpenAPI document: the source of the client's types.

.venv/bin/python clients/typescript/scripts/schemas.py > clients/typescript/schemas.json
npm --prefix clients run generate --workspace typescript
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.json_schema import models_json_schema

from handrail_contracts import commands, events, plan, problems, tasks
from handrail_contracts.answers import ANSWERS
from handrail_contracts.pauses import Pause

_SAID = (
    commands.StartRequest,
    commands.ResumeRequest,
    commands.SseTicketRequest,
    plan.Plan,
    tasks.Progress,
    problems.Problem,
    Pause,
    *dict.fromkeys(events.EVENTS.values()),
)


def document() -> dict[str, Any]:
    """An OpenAPI 3.1 document with every shape that a client sees, and no paths."""
    models = [(model, "validation") for model in (*_SAID, *ANSWERS)]
    _, found = models_json_schema(models, by_alias=True, ref_template="#/components/schemas/{model}")  # pyright: ignore[reportArgumentType]  # a tuple of literals
    return {
        "openapi": "3.1.0",
        "info": {"title": "Handrail", "version": "1"},
        "paths": {},
        "components": {"schemas": found["$defs"]},
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    sys.stdout.write("\n")
