"""The table of agents: words of states, tree, filters, graphs, and texts of agents in it."""

from __future__ import annotations

import time
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.services.dashboard.pages.overview import render_row
from hive_core.services.dashboard.pages.overview.graphs import graph, short_size
from hive_core.services.dashboard.pages.overview.rows import AgentRow, Filter, age, make_rows, order_as_tree
from tests.unit.core.services.dashboard.pages.overview.daemon_answers import HOSTILE, NOW, activity, agent, ago


def _row(doing: dict[str, Any] | None = None, **changes: Any) -> AgentRow:
    found = activity({"agent": "ada", **(doing or {})})
    (row,) = make_rows([agent("ada", **changes)], found, Filter(), NOW)
    return row


@pytest.mark.parametrize(
    ("changes", "state", "kind"),
    [
        ({"state": "thinking"}, "working", "working"),
        ({"state": "needs_login"}, "needs a login", "waiting"),
        ({"state": "budget"}, "budget used up", "waiting"),
        ({"state": "offline"}, "not reporting", "failed"),
        ({"lifecycle": "backoff", "state": "offline"}, "crashed", "failed"),
        ({"lifecycle": "stopping", "state": "thinking"}, "stopping", "stopped"),
        ({"lifecycle": "stopped", "state": "idle"}, "stopped", "stopped"),
        ({"lifecycle": "starting", "state": "starting"}, "starting", "starting"),
    ],
)
def test_state_is_that_of_the_process_unless_it_runs(changes: dict[str, Any], state: str, kind: str) -> None:
    """An agent whose process does not run is never shown as working, whatever its harness said last."""
    row = _row(**changes)
    assert (row.state, row.kind) == (state, kind)


def test_activity_is_shown_only_of_agents_at_work() -> None:
    """The line of a turn that is over is gone; a failure's cause takes its place."""
    doing = {"activity": "Bash ls"}
    assert _row(doing, state="thinking").now == "Bash ls"
    assert _row(doing, state="idle").now == ""
    crashed = _row(doing, lifecycle="failed", state="offline", exit_cause="exit status 1")
    assert (crashed.now, crashed.is_detail) == ("exit status 1", True)


def test_network_tells_its_end() -> None:
    """An open network is told with the time that is left, and what is not sealed is never called so."""
    until = (NOW + timedelta(minutes=42, seconds=30)).isoformat()
    assert _row(network_open=True, network_open_until=until).network == "open for 42 min"
    assert _row(network_rules=1).network == "sealed, 1 rule"
    assert _row(unsealed=True, network_open=True).network == "not sealed"
    assert _row(network="host").network == "host's"


def test_tree_puts_children_behind_their_parents() -> None:
    """An agent stands behind the one that asked for it; one whose parent is not there, or a circle, at the top."""
    parents = {"ada": "hm1nd", "bob": "ada", "cy": "operator", "x": "y", "y": "x", "z": "z"}
    found = order_as_tree(["hm1nd", "ada", "bob", "cy", "x", "y", "z"], parents)
    assert found == [("hm1nd", 0), ("ada", 1), ("bob", 2), ("cy", 0), ("z", 0), ("x", 0), ("y", 0)]


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("abcdefghi")),
)
def test_tree_loses_nobody(names: list[str], parents: dict[str, str]) -> None:
    """Whoever asked for whom, each agent is in the tree once."""
    assert sorted(name for name, _ in order_as_tree(names, parents)) == sorted(names)


def test_filters_choose_by_text_state_and_owner() -> None:
    """Each field of a filter has to fit; what means nothing is left out, and a live part gets the same filter."""
    agents = [agent("ada", owner="mara", state="thinking"), agent("bob", status="Fixes the Parser"), agent("cy")]

    def names(**query: str) -> list[str]:
        chosen = Filter.of_query(query)
        arguments = dict(each.split("=") for each in chosen.arguments.lstrip("?").split("&") if each)
        assert Filter.of_arguments(arguments) == chosen
        return [row.name for row in make_rows(agents, activity(ada="bob"), chosen, NOW)]

    assert names() == ["bob", "ada", "cy"]
    assert names(view="list") == ["ada", "bob", "cy"]
    assert names(q="parser") == ["bob"]
    assert names(state="working") == ["ada"]
    assert names(state="<b>", owner="mara") == ["ada"]
    assert names(q="a&b=%3F<>", state="idle") == []


def test_ages_change_once_in_a_minute() -> None:
    """A row is the same for a minute, so that it is not sent again and again."""
    assert [age(ago(seconds=seconds), NOW) for seconds in (1, 59, 60, 3_600, 90_000)] == [
        *("< 1 min", "< 1 min", "1 min", "1 h", "1 d")
    ]
    assert age(None, NOW) == age("", NOW) == ""


def test_graph_is_scaled_to_its_limit() -> None:
    """The top of a graph is the limit, one that is nearly reached is marked, and a single sample is a line, too."""
    half = graph([50.0], 100, str, "100")
    assert half is not None
    assert (half.points, half.now, half.is_near) == ("57.9,8.0 60.0,8.0", "50", False)
    full = graph([1.0] * 70 + [99.0], 100, str, "100")
    assert full is not None
    assert full.is_near
    assert len(full.points.split()) == 30
    assert full.points.endswith("60.0,1.1")
    assert graph([], 100, str, "100") is None
    zero = graph([0.0, 0.0], None, str, None)
    assert zero is not None
    assert zero.limit == ""
    assert [short_size(size) for size in (2**20 * 512, 2**30, 2**30 + 2**29)] == ["512M", "1G", "1.5G"]


class _Tags(HTMLParser):
    """The tags and attributes of a piece of HTML, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("field", ["status", "detail", "owner", "model", "activity", "used_model"])
def test_texts_of_agents_stay_texts(field: str) -> None:
    """A hostile text in any field adds no tag or attribute, and its invisible characters are shown."""
    doing = {"activity": HOSTILE if field == "activity" else "x", "model": HOSTILE if field == "used_model" else None}
    changes: dict[str, Any] = {field: HOSTILE} if field in ("status", "detail", "owner", "model") else {}
    state = "thinking" if field == "activity" else "idle"
    harmless, hostile = _Tags(), _Tags()
    harmless.feed(render_row(_row({"activity": "x"}, state=state, **dict.fromkeys(changes, "x")), "c", may_act=True))
    hostile.feed(render_row(_row(doing, state=state, **changes), "c", may_act=True))
    assert hostile.found <= harmless.found
    assert "<img src=x onerror=alert(1)>\\u202e\\x1b[2J" in hostile.text


def test_viewers_get_no_buttons() -> None:
    """The row of a person who only looks has no form and no button, and all else."""
    looks = render_row(_row(), "c", may_act=False)
    assert "<form" not in looks
    assert "<button" not in looks
    assert "ada" in looks


def test_a_hundred_agents_are_quick() -> None:
    """The table of a hundred agents of which a tenth changed takes far less than the 100 ms between two makings."""
    samples = {"memory": [2**28] * 60, "processor": [50.0] * 60, "memory_max": 2**30, "cpu_quota": 200}
    agents = [agent(f"a{number}", unacked=number) for number in range(100)]
    doing = activity(*({"agent": each["name"], **samples, "context": 5, "window": 10} for each in agents))

    def make() -> float:
        start = time.process_time()
        for row in make_rows(agents, doing, Filter(), NOW):
            render_row(row, "c", may_act=True)
        return time.process_time() - start

    make()
    taken = []
    for turn in range(5):
        for each in agents[::10]:
            each["unacked"] = 1_000 + turn
        taken.append(make())
    assert min(taken) < 0.010
