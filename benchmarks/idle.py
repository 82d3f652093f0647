"""What a running `handrail up` costs while nothing happens:  python -m benchmarks.idle --data .handrail --seconds 30"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import psutil


def processes(data: Path) -> list[psutil.Process]:
    """The one that holds the folder, and the engines that work in it."""
    holder = psutil.Process(int((data / "handrail.lock").read_text()))
    known = {p.pid: p for p in (holder, *holder.children(recursive=True))}
    engines = tuple(f"{data.resolve()}/{engine}/" for engine in ("postgres", "valkey"))
    for process in psutil.process_iter(["cmdline"]):
        if any(engine in " ".join(process.info["cmdline"] or ()) for engine in engines):
            known.setdefault(process.pid, process)
            known |= {child.pid: child for child in process.children(recursive=True)}
    return list(known.values())


def main() -> None:
    """Prints CPU in percent of one core, resident and proportional size, process by process and altogether."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".handrail"), help="folder of the running handrail up")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch")
    asked = parser.parse_args()
    watched = processes(asked.data)
    before = {p.pid: sum(p.cpu_times()[:2]) for p in watched}
    began = time.perf_counter()
    time.sleep(asked.seconds)
    wall = time.perf_counter() - began
    total_cpu = total_rss = total_pss = 0.0
    for process in watched:
        if not process.is_running():
            continue
        cpu = (sum(process.cpu_times()[:2]) - before[process.pid]) / wall * 100
        memory = process.memory_full_info()
        total_cpu += cpu
        total_rss += memory.rss / 2**20
        total_pss += memory.pss / 2**20
        print(f"{process.pid:>8}  {cpu:5.2f} %  {memory.rss / 2**20:7.1f} MiB  {' '.join(process.cmdline())[:70]}")
    print(
        f"idle for {wall:.0f} s: {total_cpu:.2f} % of a core, {total_rss:.0f} MiB resident, {total_pss:.0f} MiB proportional"
    )


if __name__ == "__main__":
    main()
