"""The drawing of a DAG says exactly its edges: it is read back as a person would read it, and compared."""

from __future__ import annotations

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from handrail.cli.lanes import MOST_LANES, Row, draw, levels

Dag = dict[str, list[str]]
OPEN_BELOW = frozenset("●│├┤┼")
JOINTS = frozenset("├┤┼╰╯┴")


@st.composite
def dags(draw_: st.DrawFn, most: int = 12) -> Dag:
    count = draw_(st.integers(0, most))
    return {
        f"n{i}": [f"n{j}" for j in draw_(st.lists(st.integers(0, i - 1), max_size=4, unique=True))] if i else []
        for i in range(count)
    }


def read_back(rows: list[Row]) -> dict[str, set[str]]:
    """Edges as the eye follows them: joints on the node's own line, and the lane that ends in its icon."""
    found: dict[str, set[str]] = {}
    lane_of: dict[int, str] = {}
    above = ""
    for row in rows:
        text = row.before + "●" + row.after
        column = len(row.before)
        sources = {lane_of[i] for i, c in enumerate(text) if c in JOINTS}
        if column < len(above) and above[column] in OPEN_BELOW and column in lane_of:
            sources.add(lane_of[column])
        found[row.node_id] = sources
        lane_of[column] = row.node_id
        above = text
    return found


@given(dags())
@settings(max_examples=400)
def test_the_edges_can_be_read_off_the_drawing(dag: Dag) -> None:
    rows = draw(dag)
    if rows and rows[0].before.strip().isdigit():
        return
    assert read_back(rows) == {node_id: set(needs) for node_id, needs in dag.items()}


@given(dags(30))
@settings(max_examples=200)
def test_every_node_has_one_line_and_all_lines_are_equally_wide(dag: Dag) -> None:
    rows = draw(dag)
    assert sorted(row.node_id for row in rows) == sorted(dag)
    assert len({len(row.before) + len(row.after) for row in rows}) <= 1
    seen: set[str] = set()
    for row in rows:
        assert seen.issuperset(dag[row.node_id]), "a node stands above one that it depends on"
        seen.add(row.node_id)


@given(dags(30))
@settings(max_examples=200)
def test_levels_are_longest_ways(dag: Dag) -> None:
    graph = nx.DiGraph()
    graph.add_nodes_from(dag)
    graph.add_edges_from((d, n) for n, needs in dag.items() for d in needs)
    generations = {n: i for i, group in enumerate(nx.topological_generations(graph)) for n in group}
    assert levels(dag) == generations


def test_a_diamond_looks_like_one() -> None:
    rows = draw({"a": [], "b": ["a"], "c": ["a"], "d": ["a"], "e": ["b", "c", "d"]})
    assert [f"{row.before}●{row.after}{row.node_id}" for row in rows] == [
        "●    a",
        "├─●  b",
        "├─│─●c",
        "● │ │d",
        "●─┴─╯e",
    ]


def test_a_graph_too_wide_for_lanes_is_shown_by_its_levels() -> None:
    star: Dag = {f"r{i}": [] for i in range(MOST_LANES + 1)}
    star["end"] = list(star)
    rows = draw(star)
    assert {row.before for row in rows[:-1]} == {"  1 "}
    assert rows[-1] == Row("end", 1, "  2 ", "")


def test_a_dependency_that_is_not_there_is_passed_over() -> None:
    assert [row.node_id for row in draw({"a": ["ghost"], "b": ["a"]})] == ["a", "b"]


def test_ten_thousand_nodes_are_laid_out_without_recursion() -> None:
    chain = {f"n{i}": [f"n{i - 1}"] if i else [] for i in range(10_000)}
    assert draw(chain)[-1].level == 9_999
