"""Agents of one's own are found by name, or the fault is told in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from handrail_agents.loading import distinct, load
from handrail_runtime.errors import Misconfigured
from handrail_sdk.agent import Agent

SOURCE = """
from handrail_sdk import Agent

clerk = Agent("clerk")
porter = Agent("porter")
same = clerk
number = 7

@clerk.task()
async def greet(inputs: dict) -> dict:
    return inputs
"""


NO_LOOK_UP = """
from handrail_sdk import Agent

clerk = Agent("clerk")

@clerk.task(effect="queryable")
async def pay() -> str:
    return "paid"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_own_agents.py").write_text(SOURCE)
    (tmp_path / "no_agents.py").write_text("x = 1")
    (tmp_path / "broken_agents.py").write_text("import a_module_that_is_not_there")
    (tmp_path / "half_written_agents.py").write_text("x = 1\ndef (")
    (tmp_path / "odd_button_agents.py").write_text("from handrail_sdk import Skip\n\nSkip('odd id', 'Go on')\n")
    (tmp_path / "raising_agents.py").write_text("x = {}\n\nx['key']\n")
    (tmp_path / "no_look_up_agents.py").write_text(NO_LOOK_UP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_module_gives_all_its_agents_and_a_name_gives_one() -> None:
    assert [a.name for a in load("my_own_agents")] == ["clerk", "porter"]
    assert [a.name for a in load("my_own_agents:porter")] == ["porter"]
    assert [a.name for a in load(" my_own_agents:porter , my_own_agents ,")] == ["porter", "clerk"]
    assert list(load("my_own_agents:clerk")[0].tasks) == ["greet"]
    assert load("") == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("nowhere_at_all", "import 'nowhere_at_all'"),
        ("broken_agents", "a_module_that_is_not_there"),
        ("no_agents", "'no_agents' to define an Agent"),
        ("my_own_agents:number", "an Agent named 'number'"),
        ("my_own_agents:nobody", "an Agent named 'nobody'"),
        (":clerk", "Expected to import ''"),
        ("half_written_agents", "half_written_agents.py:2: SyntaxError"),
        ("odd_button_agents", "odd_button_agents.py:3: Expected a resolution with an id such as RES_SKIP"),
        ("raising_agents", "raising_agents.py:3: KeyError: 'key'"),
        ("no_look_up_agents", "a look-up on task clerk.pay"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(names: str, words: str) -> None:
    with pytest.raises(Misconfigured) as told:
        load(names)
    assert str(told.value).startswith("HANDRAIL_AGENTS__LOAD: Expected ")
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_two_agents_of_one_name_are_refused() -> None:
    with pytest.raises(Misconfigured, match="clerk"):
        distinct([Agent("clerk"), Agent("porter"), Agent("clerk")])
