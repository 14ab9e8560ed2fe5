"""`hive-c0re run`: the choice of an agent, and what is refused before one has the wish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.cli.commands.steering.run import _entries_since, _free_name
from hive_core.cli.commands.steering.turn_view import Happening
from hive_core.cli.errors import Failure
from hive_core.protocol import SendRequest, SpawnRequest
from hive_core.protocol.names import REPOSITORY_PATTERN, is_agent_name
from tests.unit.core.cli.commands.work.fake_host_work import work
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_http import Refusal
from tests.unit.core.cli.run_cli import Program


def sent(daemon: FakeHost) -> list[str]:
    """Who has been sent the wish."""
    return [body.to for _, _, body in daemon.asked if isinstance(body, SendRequest)]


@pytest.mark.parametrize(
    ("repo", "taken", "name"),
    [
        ("web", set(), "web"),
        ("web", {"web"}, "web-2"),
        ("web", {"web", "web-2"}, "web-3"),
        ("storefronts", set(), "storefron"),
        ("storefronts", {"storefron"}, "storefr-2"),
        ("my-long-name", {"my-long-n"}, "my-long-2"),
        ("all", set(), "all-2"),
    ],
)
def test_names_of_new_agents(repo: str, taken: set[str], name: str) -> None:
    """A new agent is named after the repository, as far as a name is long, with a number if that name is taken."""
    assert _free_name(repo, taken) == name


@given(repo=st.from_regex(REPOSITORY_PATTERN, fullmatch=True), count=st.integers(0, 20))
def test_every_repository_has_names(repo: str, count: int) -> None:
    """Whatever a repository is called, its agents get names that are allowed and that nobody has."""
    taken: set[str] = set()
    for _ in range(count + 1):
        name = _free_name(repo, taken)
        assert is_agent_name(name) and name not in taken
        taken.add(name)


def test_no_name_is_left() -> None:
    """A repository with a thousand agents gets no other one, and the hint names the option that helps."""
    taken = {"web", *(f"web-{number}" for number in range(2, 1_000))}
    with pytest.raises(Failure, match="too many agents") as raised:
        _free_name("web", taken)
    assert "--agent" in raised.value.hint


async def test_an_idle_agent_is_taken(hive: Program, daemon: FakeHost) -> None:
    """An idle agent that has the repository gets the wish; work that was there before is not taken for its result."""
    daemon.agents = [
        agent("ada", state="thinking", backend="claude"),
        agent("bob", backend="claude"),
        agent("cy", backend="claude"),
        agent("dee"),
        agent("eve", state="needs_login", backend="claude"),
    ]
    daemon.working.users = {"web": ["eve", "dee", "ada", "cy"]}
    daemon.working.work = [work(number=4, by="cy")]
    daemon.handled = True
    ended = await hive.run("run", "web", "Mend it.")
    assert sent(daemon) == ["cy"]
    assert ended.code == 1 and "cy has ended its turn without submitting work" in ended.err


async def test_a_path_is_read_before_the_wish_is_sent(hive: Program, daemon: FakeHost) -> None:
    """A path that cannot be read any more is told, and the wish is sent all the same."""
    daemon.agents, daemon.handled, daemon.working.path = [agent("ada", backend="claude")], True, "/nowhere"
    ended = await hive.run("run", "web", "Mend it.")
    assert "warning: web is used as it was fetched before: '/nowhere' is no repository" in ended.err
    assert sent(daemon) == ["ada"]


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["weeb"], "there is no repository weeb, did you mean 'web'?", "see the list"),
        (["We B"], "a-z, 0-9 and hyphens", "hive-c0re repo list"),
        (["web", "--agent", "bob"], "bob does not have the repository web", "agent.toml"),
        (["web", "--agent", "cy"], "cy is stopped", "hive-c0re start cy"),
    ],
)
async def test_refusals(hive: Program, daemon: FakeHost, arguments: list[str], words: str, hint: str) -> None:
    """A repository or an agent that cannot be used is refused before anybody gets the wish."""
    daemon.agents = [agent("bob"), agent("cy", lifecycle="stopped", state="offline")]
    daemon.working.users = {"web": ["cy"]}
    repo, *options = arguments
    ended = await hive.run("run", repo, "Mend it.", *options)
    assert ended.code == 1
    assert words in ended.err and hint in ended.err
    assert sent(daemon) == [] and not any(isinstance(body, SpawnRequest) for _, _, body in daemon.asked)


async def test_an_agent_is_made(hive: Program, daemon: FakeHost) -> None:
    """Without an idle agent one is made, with the repository, under the next free name, and gets the wish."""
    daemon.agents = [agent("web", state="thinking")]
    daemon.working.users = {"web": ["web"]}
    daemon.later = [agent("web-2", state="starting"), agent("web-2"), agent("web-2")]
    daemon.handled = True
    ended = await hive.run("run", "web", "Mend it.", "--backend", "scripted")
    (asked,) = [body for _, _, body in daemon.asked if isinstance(body, SpawnRequest)]
    assert (asked.name, asked.config.repos, asked.config.backend) == ("web-2", ["web"], "scripted")
    assert (asked.config.network, asked.config.allowed_hosts) == ("sealed", [])
    assert sent(daemon) == ["web-2"]
    assert ended.code == 1 and "web-2 has ended its turn without submitting work" in ended.err


async def test_an_empty_wish(hive: Program, daemon: FakeHost) -> None:
    """A wish without words is refused before an agent is made or asked."""
    ended = await hive.run("run", "web", " ")
    assert ended.code == 2 and "The wish is empty" in ended.err and daemon.asked == []


async def test_a_new_agent_without_a_login_keeps_the_wish(hive: Program, daemon: FakeHost) -> None:
    """A new agent that needs a login has the wish all the same; the error says so, and how the agent gets the login."""
    daemon.working.users = {"web": []}
    daemon.later = [agent("web", state="needs_login", detail="no key")]
    ended = await hive.run("run", "web", "Mend it.")
    assert sent(daemon) == ["web"]
    assert ended.code == 1 and 'web was created, but needs a login: "no key"; your wish waits for it' in ended.err
    assert 'log it in with "hive-c0re login web"' in ended.err


async def test_an_agent_that_needs_a_login_is_taken_again(hive: Program, daemon: FakeHost) -> None:
    """An agent that waits for its login keeps the next wish, too, where none is idle, and no other one is made."""
    daemon.agents = [agent("web", state="needs_login", detail="no key", unacked=1, backend="claude")]
    daemon.working.users = {"web": ["web"]}
    ended = await hive.run("run", "web", "Mend it.", "--backend", "claude")
    assert sent(daemon) == ["web"] and not any(isinstance(body, SpawnRequest) for _, _, body in daemon.asked)
    assert ended.code == 1 and 'web needs a login: "no key"; your wish waits for it as message' in ended.err


async def test_an_agent_with_a_script_is_not_taken(hive: Program, daemon: FakeHost) -> None:
    """An agent that follows a script is not chosen for a wish in words, and is taken where its backend is named."""
    daemon.agents = [agent("web")]
    daemon.working.users = {"web": ["web"]}
    daemon.refused_spawn = Refusal(409, "not_now", "this was asked for", "wait")
    assert (await hive.run("run", "web", "Mend it.")).code == 1
    assert sent(daemon) == []
    daemon.handled = True
    await hive.run("run", "web", "Mend it.", "--backend", "scripted")
    assert sent(daemon) == ["web"]


async def test_a_name_that_was_taken_meanwhile(hive: Program, daemon: FakeHost) -> None:
    """A refusal of the new agent is shown as the daemon says it, and nobody gets the wish."""
    daemon.working.users = {"web": []}
    daemon.refused_spawn = Refusal(409, "agent_exists", "there is an agent web already", "destroy it first")
    ended = await hive.run("run", "web", "Mend it.", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error["code"] == "agent_exists" and sent(daemon) == []


def test_the_beginning_of_the_turn_is_shown() -> None:
    """What the agent did before it was watched is shown, if it is about this wish; an earlier turn is not."""
    text = {"kind": "text", "text": "I look."}
    latest = {"latest": {"entries": [{"kind": "message", "id": 7}, {"kind": "usage"}, text]}}
    assert _entries_since(7, Happening("now", latest)) == [text]
    assert _entries_since(8, Happening("now", latest)) == []
    assert _entries_since(8, Happening("entry", text)) == [text]
    assert _entries_since(7, Happening("state", {"state": "idle"})) == []


@pytest.mark.parametrize(
    ("options", "network", "hosts"),
    [
        ([], "sealed", ["anthropic"]),
        (["--backend", "codex"], "sealed", ["openai"]),
        (["--backend", "opencode"], "sealed", []),
        (["--network", "host"], "host", []),
    ],
)
async def test_a_new_agent_reaches_its_model(
    hive: Program, daemon: FakeHost, options: list[str], network: str, hosts: list[str]
) -> None:
    """A new agent is sealed, and reaches the vendor of its backend's models and nothing else."""
    daemon.working.users = {"web": []}
    daemon.refused_spawn = Refusal(409, "agent_exists", "there is an agent web already", "destroy it first")
    await hive.run("run", "web", "Mend it.", *options)
    (asked,) = [body for _, _, body in daemon.asked if isinstance(body, SpawnRequest)]
    assert (asked.config.network, asked.config.allowed_hosts) == (network, hosts)
