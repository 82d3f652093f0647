"""What the machine did meanwhile: CPU by process of ours, CPU of everybody else, versions of the engines."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import psutil


def versions(**engines: str) -> dict[str, str]:
    """What was measured on."""
    ours = {name: version(name) for name in ("aiokafka", "asyncpg", "faust-streaming", "uvloop", "redis")}
    return {"python": platform.python_version(), "cores": str(os.cpu_count()), **engines, **ours}


async def postgres_version(dsn: str) -> str:
    """What the server says."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


class Cpu:
    """CPU seconds of named process trees during a block, and of everything else."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = dict(roots)

    def __enter__(self) -> Cpu:
        self._began = time.perf_counter()
        self._before = self._read()
        self._all_before = _busy()
        return self

    def __exit__(self, *_: Any) -> None:
        self.wall_s = time.perf_counter() - self._began
        after = self._read()
        self.by_process = {name: round(after[name] - self._before.get(name, 0.0), 3) for name in after}
        self.ours_s = sum(self.by_process.values())
        self.others_cores = round(max(0.0, _busy() - self._all_before - self.ours_s) / self.wall_s, 2)

    def per(self, count: int) -> dict[str, Any]:
        """What one of `count` steps (or calls) cost each process, and how busy the machine was with us and with others."""
        each = {name: round(s / max(1, count) * 1e3, 4) for name, s in self.by_process.items()}
        total = sum(ms for name, ms in each.items() if name != "driver")
        cores = round(self.ours_s / self.wall_s, 2)
        return {"cpu_ms": each, "cpu_ms_all": round(total, 4), "cores": cores, "others": self.others_cores}

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, pid in self._roots.items():
            total = 0.0
            try:
                root = psutil.Process(pid)
                for process in (root, *([] if name == "driver" else root.children(recursive=True))):
                    times = process.cpu_times()
                    total += times.user + times.system
            except psutil.NoSuchProcess:
                pass
            found[name] = total
        return found


def _busy() -> float:
    t = psutil.cpu_times()
    return t.user + t.system + getattr(t, "nice", 0.0) + getattr(t, "irq", 0.0) + getattr(t, "softirq", 0.0)


def rss_mb(roots: Mapping[str, int]) -> dict[str, float]:
    """Resident memory of process trees in MiB (proportional set size where the kernel tells it)."""
    found: dict[str, float] = {}
    for name, pid in roots.items():
        total = 0
        try:
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.rss)
        except psutil.NoSuchProcess:
            continue
        found[name] = round(total / 2**20, 1)
    return found
