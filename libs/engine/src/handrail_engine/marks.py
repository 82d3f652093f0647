"""How a node remembers what it has been told of already, so that a repeat adds no row."""

from __future__ import annotations


def ignored_mark(attempt: int, outcome: str) -> str:
    """Marks an answer that was journaled and not applied."""
    return f"{attempt}:{outcome}"


def listed_mark(effect_key: str) -> str:
    """Marks an effect that nobody undoes any more and that stands among the dead letters."""
    return f"listed:{effect_key}"
