"""Writes docs/reference/performance.md from runs: `make bench-report RESULTS=results.jsonl`.

The lines are those that BENCH_RESULTS collected (`BENCH_RESULTS=results.jsonl make bench …`, and of the comparison).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.compare import OURS, PEERS, ratios
from benchmarks.load import median
from benchmarks.run import table

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "performance.md"
NOTES = Path(__file__).with_name("notes.md")
_LIBRARIES = ("aiokafka", "asyncpg", "redis", "uvloop", "pydantic", "orjson")


def budget(rows: Sequence[dict[str, Any]]) -> str:
    """CPU per node of each process at the highest concurrency: where a node's time goes."""
    dags = [r for r in rows if r.get("effect") and r["peer"].startswith("handrail")]
    lines: list[str] = []
    for key in dict.fromkeys((r["peer"], r["wl"], r["effect"]) for r in dags):
        same = [r for r in dags if (r["peer"], r["wl"], r["effect"]) == key]
        most = [r for r in same if r["conc"] == max(x["conc"] for x in same)]
        parts = {name: median([r["cpu_ms"] for r in most], name) * 1e3 for name in most[0]["cpu_ms"]}
        whole = sum(us for name, us in parts.items() if name != "driver")
        each = ", ".join(f"{name.removesuffix('-1')} {us:.0f}" for name, us in parts.items())
        lines.append(f"- {key[0]}, {key[1]}, {key[2]}, at {most[0]['conc']}: **{whole:.0f} µs** ({each})")
    return "\n".join(lines)


def page(rows: list[dict[str, Any]], commands: Sequence[str]) -> str:
    """The whole page."""
    ours = [r for r in rows if not r.get("versus")]
    versus = [r for r in rows if r.get("versus")]
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    others = sorted(r["others"] for r in rows if "others" in r)
    loads = f"{others[0]:.2f} to {others[-1]:.2f}, median {others[len(others) // 2]:.2f}" if others else "unknown"
    peers = [p for p in PEERS if any(r["peer"] == p for r in versus)]
    parts = [
        "# Measured performance",
        "Written by `python -m benchmarks.report` from a run; change the run, not the page. Everything (load generator, services, "
        f"Kafka, PostgreSQL with fsync on, Valkey) shared {os.cpu_count()} cores. Python {platform.python_version()}; {versions}. "
        f"Cores used by other processes meanwhile: {loads}. Medians over the repeats.",
        "```sh\n" + "\n".join(commands) + "\n```",
        "`cpu ms` is CPU per node (diamond, chain10, big), per workflow (resume), per call (accept, rehydrate) or per delivery (fanout), over all "
        "processes but the load generator; it changes far less with the load of the machine than the times do. For fanout `per s` are deliveries, and "
        "p50 and p99 are the age of an event at an SSE client.",
        table(ours),
        "## Where the CPU of a node goes (µs)",
        budget(ours),
    ]
    if versus:
        parts += ["## Beside the peers, in turn", table(versus), "```\n" + "\n".join(ratios(versus, peers)) + "\n```"]
        assert any(r["peer"] == OURS for r in versus)
    if NOTES.exists():
        parts.append(NOTES.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """`python -m benchmarks.report [--versus compare.jsonl] results.jsonl command…`."""
    arguments = sys.argv[1:]
    versus: list[dict[str, Any]] = []
    if arguments[:1] == ["--versus"]:
        versus = [{**r, "versus": True} for r in _read(arguments[1])]
        arguments = arguments[2:]
    rows = _read(arguments[0]) if arguments else []
    PAGE.write_text(page([*rows, *versus], arguments[1:]), encoding="utf-8")
    print(f"wrote {PAGE}")


def _read(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.startswith('{"t"')]


if __name__ == "__main__":
    main()
