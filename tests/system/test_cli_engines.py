"""`handrail topics`, `db` and `clock` on real engines."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from handrail.cli.main import build
from handrail.engines.errors import EngineUnavailable
from handrail.engines.kafka import LocalKafka
from handrail_contracts.topics import TOPICS, task_topic
from handrail_store import migrate


async def handrail(*words: str, **env: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, build(), list(words), env=env)


async def test_a_database_is_upgraded_once_and_the_clock_moves_only_forward(empty_database: str) -> None:
    before = await handrail("clock", "show", "--postgres", empty_database)
    assert (before.exit_code, "handrail db upgrade" in before.stderr) == (1, True)
    for _ in range(2):
        shown = await handrail("db", "upgrade", "--postgres", empty_database, "--partitions", "6")
        assert shown.exit_code == 0, shown.stderr
        assert "with 6 partitions" in shown.stdout
    other = await handrail("db", "upgrade", "--postgres", empty_database, "--partitions", "7")
    assert other.exit_code == 1
    assert "HANDRAIL_PARTITIONS=6" in other.stderr
    moved = await handrail("clock", "advance", "7d", "--postgres", empty_database, HANDRAIL_DEV="1")
    assert moved.exit_code == 0
    shown = await handrail("clock", "show", "--postgres", empty_database, "--json")
    assert json.loads(shown.stdout)["offset_s"] == 7 * 86_400
    back = await handrail("clock", "advance", "-7d", "--postgres", empty_database, HANDRAIL_DEV="1")
    assert back.exit_code == 2


@pytest.mark.kafka
async def test_topics_are_made_once_with_their_partitions(tmp_path: Path) -> None:
    # A broker of its own: on the shared one these names have the partitions that other tests need.
    try:
        kafka = await LocalKafka.start(tmp_path / "kafka")
    except EngineUnavailable as e:
        pytest.skip(str(e))
    try:
        words = ("topics", "apply", "--kafka", kafka.bootstrap_servers, "--partitions", "3", "--agent", "cli_test_bot")
        first = await handrail(*words)
        assert (first.exit_code, first.stderr) == (0, "")
        assert first.stdout.count("+ made") == len(TOPICS) + 1
        assert task_topic("cli_test_bot") in first.stdout
        again = await handrail(*words)
        assert again.exit_code == 0
        assert "+ made" not in again.stdout
        other = await handrail(*words[:5], "4")
        assert other.exit_code == 1
        assert "Expected 4 partitions" in other.stderr
        shown = await handrail("topics", "list", "--kafka", kafka.bootstrap_servers, "--json")
        assert shown.exit_code == 0, shown.stderr
        assert {t["topic"]: t["partitions"] for t in json.loads(shown.stdout)["items"]} == {
            t.name: 3 if t.co_partitioned else 1 for t in TOPICS
        }
    finally:
        await kafka.stop()


async def test_a_stack_does_not_start_where_another_one_answers(tmp_path: Path) -> None:
    """The other one would answer for it: it would be called ready, and serve nothing of its own."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1] - 2  # not the gateway's, but one of its services'
        words = ("-m", "handrail", "stack", "--port", str(port), "--data", str(tmp_path / "data"))
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
    assert process.returncode == 78
    told = said.decode().strip().splitlines()
    assert told[-1].startswith(f"Handrail cannot start: Expected port {port + 2} on 127.0.0.1 to be free"), said
    assert not (tmp_path / "data").exists(), "it is told before anything is started"


async def test_what_was_not_delivered_is_listed_and_sent_again(empty_database: str) -> None:
    await migrate.upgrade(empty_database, 4)
    connection: Any = await asyncpg.connect(empty_database)
    await connection.execute(
        "INSERT INTO handrail.outbound (id, channel, kind, body, attempts, state, error)"
        " VALUES ('default/slack/opened/p1', 'slack', 'opened', '{}', 11, 'parked', 'the receiver answered 503')"
    )
    listed = await handrail("channels", "ls", "--postgres", empty_database, "--json")
    assert [(r["id"], r["state"], r["error"]) for r in json.loads(listed.stdout)] == [
        ("default/slack/opened/p1", "parked", "the receiver answered 503")
    ]
    assert (await handrail("channels", "retry", "nobody", "--postgres", empty_database)).exit_code == 1
    assert (await handrail("channels", "retry", "--postgres", empty_database)).exit_code == 2
    assert (await handrail("channels", "retry", "default/slack/opened/p1", "--postgres", empty_database)).exit_code == 0
    assert await connection.fetchval("SELECT (state, attempts)::text FROM handrail.outbound") == "(due,0)"
    await connection.close()


async def test_wrong_settings_are_told_all_at_once_before_anything_is_started(tmp_path: Path) -> None:
    wrong = {"HANDRAIL_GATEWAY__MCP_TOOLS": "telepathy", "HANDRAIL_AGENTS__SLOTS": "many"}
    up = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "handrail", "up", "--data", str(tmp_path / "data"), stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL, env={**os.environ, **wrong},
    )  # fmt: skip
    said = (await up.communicate())[1].decode().splitlines()
    assert up.returncode == 78 and said[0] == "Handrail cannot start: 2 settings are wrong.", said
    assert [line.split(":")[0].strip() for line in said[1:]] == [
        "HANDRAIL_AGENTS__SLOTS",
        "HANDRAIL_GATEWAY__MCP_TOOLS",
    ]
    assert not (tmp_path / "data").exists()
