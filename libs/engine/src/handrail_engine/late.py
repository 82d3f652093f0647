"""A late effect's undo as a workflow of its own: what the replay of such a dead letter starts."""

from __future__ import annotations

from typing import Any

_RESOLUTIONS = [
    {"action_id": "RES_RETRY", "display_text": "Try the undo again", "kind": "retry", "style": "primary"},
    {"action_id": "RES_SKIP", "display_text": "Leave this effect standing", "kind": "skip"},
]


def undo_plan(letter: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The compiled plan (one node) that undoes the effect of this dead letter (`DeadLetter` of kind `late_effect`, as it
    is kept); None where its node declared no undo, so that only a person can look after it.

    The undo has an effect key of its own and closes the effect's key first, like every undo. Its retries, dead letters
    and pauses are those of any node; nothing undoes it.
    """
    task = letter.get("task") or {}
    if not task.get("undo") or not task.get("effect_key"):
        return None
    return [
        {
            "id": letter["node_id"],
            "agent": task["agent"],
            "action": task["undo"],
            "undo_of": {"effect_key": task["effect_key"], "inputs": task.get("inputs") or {}},
            "effect_class": "idempotent",
            "compensation": "none",
            "resolutions": _RESOLUTIONS,
        }
    ]
