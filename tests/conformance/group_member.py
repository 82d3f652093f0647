"""A process that joins a group, reads one record, says so, commits nothing and waits to be killed."""

from __future__ import annotations

import asyncio
import sys

from handrail_runtime.bus_kafka import KafkaBus


async def main(bootstrap: str, group: str, topic: str) -> None:
    member = await KafkaBus(bootstrap).group_reader(group, [topic])
    while not await member.read(1, 5):
        pass
    print("read", flush=True)
    while True:
        await member.read(1, 5)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
