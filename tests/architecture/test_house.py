"""Rules of the house that a machine can check."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from handrail.topology import TASKS, TOPOLOGY
from handrail_contracts import topics

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    p
    for root in ("src", "libs", "services", "simulators")
    for p in (ROOT / root).rglob("*.py")
    if "node_modules" not in p.parts and "build" not in p.parts
)
LONGER: dict[str, str] = {
    "store/src/handrail_store/migrations/versions/0001_everything.py": "one migration is one file",
}
NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"}


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_source_file_is_longer_than_one_can_read() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in SOURCES
        if (n := len(p.read_text("utf-8").splitlines())) > 400 and not any(str(p).endswith(k) for k in LONGER)
    }
    assert not long


def test_migrations_form_one_line() -> None:
    """Two files that follow the same one would stop every database; whoever lands second takes the next number."""
    folder = ROOT / "libs/store/src/handrail_store/migrations/versions"
    numbers = [p.name[:4] for p in sorted(folder.glob("[0-9]*.py"))]
    assert numbers == [f"{i:04}" for i in range(1, len(numbers) + 1)]
    for number, path in zip(numbers, sorted(folder.glob("[0-9]*.py")), strict=True):
        before = f'down_revision = "{int(number) - 1:04}"' if number != "0001" else "down_revision = None"
        assert f'revision = "{number}"' in path.read_text() and before in path.read_text(), path.name


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [p for p in SOURCES if p.stem in NAMES]


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in SOURCES
        if p.read_text("utf-8").strip() and not p.read_text("utf-8").lstrip().startswith('"""')
    ]
    assert not silent


def test_no_tracked_file_names_a_registry_host_or_a_path_of_one_machine() -> None:
    hosts = re.compile(
        "|".join(
            [
                "python" + "hosted",
                "//py" + "pi",
                "//registry[.]" + "npm",
                "//repo[0-9]*[.]" + "maven",
                "//deb[.]" + "deb",
            ]
        )
    )
    paths = re.compile(r"(^|[^A-Za-z0-9_.])/(" + "work|ro" + "ot)/")
    found = []
    for p in _tracked():
        try:
            text = p.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if hosts.search(text) or paths.search(text):
            found.append(str(p.relative_to(ROOT)))
    assert not found


def test_locks_carry_hashes_and_uv_lock_stays_out() -> None:
    assert not [p for p in _tracked() if p.name == "uv.lock"]
    for lock in (ROOT / "requirements").glob("*.txt"):
        pins = [line for line in lock.read_text().splitlines() if re.match(r"^[a-z0-9].*==", line)]
        assert pins and all(line.rstrip().endswith("\\") for line in pins), lock.name


_CONSTANTS = {
    "COMMANDS": topics.COMMANDS,
    "RESULTS": topics.RESULTS,
    "HEARTBEATS": topics.HEARTBEATS,
    "PROGRESS": topics.PROGRESS,
    "EVENTS": topics.EVENTS,
    "DEAD_LETTERS": topics.DEAD_LETTERS,
    "QUARANTINE": topics.QUARANTINE,
    "TASKS_PREFIX": TASKS,
}


@pytest.mark.parametrize("service", sorted(TOPOLOGY))
def test_a_service_names_no_topic_that_the_topology_does_not_give_it(service: str) -> None:
    text = "\n".join(p.read_text("utf-8") for p in (ROOT / "services" / service).rglob("*.py"))
    used = {topic for name, topic in _CONSTANTS.items() if re.search(rf"\btopics\.{name}\b", text)}
    if re.search(r"\btask_topic\(|\btopics\.tasks\(", text):
        used.add(TASKS)
    if "OWNER_INPUTS" in text:
        used |= set(topics.OWNER_INPUTS)
    given = set(TOPOLOGY[service].reads) | set(TOPOLOGY[service].writes)
    if service == "gateway":
        used -= {topics.DEAD_LETTERS, topics.RESULTS, topics.QUARANTINE, TASKS}  # it describes and replays them
    assert used <= given


def test_every_topic_has_somebody_who_writes_it() -> None:
    written = {t for lines in TOPOLOGY.values() for t in lines.writes}
    assert written == {t.name for t in topics.TOPICS} | {TASKS}


def test_metrics_are_named_without_the_prefix_that_telemetry_puts_in_front() -> None:
    named = re.compile(r"\b(?:counter|gauge|histogram)\(\s*\"(handrail_\w+)")
    doubled = {m for path in SOURCES for m in named.findall(path.read_text("utf-8"))}
    assert doubled == set()


def test_no_rule_and_no_owner_asks_this_machine_for_the_time() -> None:
    """A host's clock may be wrong: what decides takes the database's, and counts on with a monotonic one (DESIGN D3, F34)."""
    asks = re.compile(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(|date\.today\(")
    rooms = ("libs/engine", "services/orchestrator", "services/agents/src/handrail_agents/runtime")
    files = [p for room in rooms for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    assert [str(p.relative_to(ROOT)) for p in files if asks.search(p.read_text("utf-8"))] == []
