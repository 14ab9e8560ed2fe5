"""`hive-c0re proposals` and `history`: looking at what was proposed and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from hive_core.cli.commands.gate.proposals import coloured
from hive_core.protocol import (
    ChangedFile,
    Deployment,
    History,
    HistoryQuery,
    LogsAnswer,
    LogsQuery,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    PruneAnswer,
    PrunedAgent,
    PruneRequest,
    ReindexAnswer,
)
from tests.unit.core.cli.fake_host_api import FakeHost, ago
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program
from tests.unit.core.cli.test_output import on_terminal


@pytest.mark.parametrize("words", [["proposals"], ["proposals", "list"]])
async def test_list(words: list[str], hive: Program, daemon: FakeHost) -> None:
    """Each proposal is a line with whom it waits for, and nothing in a note can act on a terminal or begin a line."""
    daemon.gate.proposals = [
        proposal(note="one\x1b[2J\ntwo"),
        proposal("hm1nd", 12, kind="spawn", state="failed", waits_for=None, by="manager:hm1nd"),
    ]
    ended = await hive.run(*words)
    assert (ended.code, ended.err) == (0, "more, older proposals: 2\n")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["PROPOSAL", "KIND", "STATE", "WAITS", "FOR", "BY", "PROPOSED", "NOTE"]
    assert first.split()[:5] == ["ada/3", "config", "built", "operator", "agent:ada"]
    assert first.endswith("3 min ago  one\\x1b[2J …")
    assert second.split()[:4] == ["hm1nd/12", "spawn", "failed", "manager:hm1nd"]
    assert daemon.asked == [("GET", "/v1/proposals", ProposalsQuery())]


async def test_list_takes_options(hive: Program, daemon: FakeHost) -> None:
    """The options of `list` work without its name, too, and --json is the daemon's answer."""
    daemon.gate.proposals = [proposal()]
    wanted = ProposalsQuery(agent="ada", state="all", limit=5, offset=1)
    for words in (["proposals"], ["proposals", "list"]):
        ended = await hive.run(*words, "--agent", "ada", "--state", "all", "-n", "5", "--offset", "1", "--json")
        assert len(ProposalList.model_validate(ended.json).proposals) == 1
        assert (ended.err, daemon.asked.pop()) == ("", ("GET", "/v1/proposals", wanted))


async def test_list_of_nothing(hive: Program, daemon: FakeHost) -> None:
    """That there is none is said, but not on stdout."""
    ended = await hive.run("proposals")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("no open proposals")


@pytest.mark.parametrize("words", [["ada", "3"], ["ada/3"]])
@pytest.mark.parametrize("command", ["show", "diff", "log"])
async def test_both_ways_to_name_it(command: str, words: list[str], hive: Program, daemon: FakeHost) -> None:
    """A proposal is named by two words, or by one as tags and messages write it."""
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("proposals", command, *words)
    assert ended.code == 0, ended.err
    assert {path.removesuffix("/log") for _, path, _ in daemon.asked} == {"/v1/proposals/ada/3"}


@pytest.mark.parametrize(
    "words",
    [["ada"], ["ada/"], ["ada/3", "3"], ["ada", "x"], ["ada", "-1"], ["ada", "\u0663"], ["ada", "9" * 30], ["ada/3/4"]],
)
async def test_a_number_is_a_number(words: list[str], hive: Program, daemon: FakeHost) -> None:
    """What names no proposal is wrong usage, and reaches no path of the daemon."""
    for command in (["proposals", "show"], ["approve"], ["withdraw"]):
        ended = await hive.run(*command, *words)
        assert (ended.code, ended.out, daemon.asked) == (2, "", []), command


@pytest.mark.parametrize("name", ["..", "ADA", "a?x=1", "\u0430da"])
async def test_a_name_is_a_name(name: str, hive: Program, daemon: FakeHost) -> None:
    """What can be no agent's name is refused before the daemon is asked."""
    for command in (["proposals", "show", name, "3"], ["approve", f"{name}/3"], ["history", name]):
        ended = await hive.run(*command)
        assert (ended.code, ended.out, daemon.asked) == (1, "", []), command
        assert "the name" in ended.err


async def test_show(hive: Program, daemon: FakeHost) -> None:
    """`show` says all that a decision needs, with every text of an agent's made harmless."""
    daemon.gate.proposals = [
        proposal(
            note="first\nsecond\x1b]0;x\x07",
            settings=["memory_max: 1G, was 512M\n\x1b[2J"],
            closure_changes=["agent.toml changed"],
            approvals=["manager:hm1nd"],
            diff_bytes=120,
            expires_at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
    ]
    ended = await hive.run("proposals", "show", "ada", "3")
    assert (ended.code, ended.err) == (0, "")
    facts = {line[:11].strip(): line[13:] for line in ended.out.partition("\n\n")[0].splitlines()}
    assert facts["Proposal"] == "ada/3 (config)"
    assert facts["State"] == "built, 2 min ago"
    assert facts["Proposed"] == "by agent:ada, 3 min ago"
    assert facts["Commit"] == "c" * 40
    assert facts["Closure"] == "/closures/1"
    assert facts["Approved by"] == "manager:hm1nd"
    assert facts["Waits for"].startswith("the operator, until 2030-01-0")
    assert "hive-c0re proposals diff ada/3" in facts["Diff"]
    assert "\nNote\n  first\n  second\\x1b]0;x\\x07\n" in ended.out
    assert "\nChanges of settings\n  memory_max: 1G, was 512M\\n\\x1b[2J\n" in ended.out
    assert "\nChanges of the closure\n  agent.toml changed\n" in ended.out
    answer = ProposalDetail.model_validate((await hive.run("proposals", "show", "ada/3", "--json")).json)
    assert answer == daemon.gate.proposals[0]


async def test_show_what_ended(hive: Program, daemon: FakeHost) -> None:
    """`show` of a proposal that ended says why, and waits for nobody."""
    daemon.gate.proposals = [proposal(state="denied", waits_for=None, base=None, outcome="too much\x1b")]
    ended = await hive.run("proposals", "show", "ada", "3")
    assert "Outcome    too much\\x1b\n" in ended.out
    assert "On top of  nothing\n" in ended.out
    assert "Waits for" not in ended.out


async def test_show_of_none(hive: Program, daemon: FakeHost) -> None:
    """A proposal that there is not ends with 1 and the daemon's words."""
    ended = await hive.run("proposals", "show", "ada", "4")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "hive-c0re: ada has no proposal 4 (see the list)\n"


async def test_reindex(hive: Program, daemon: FakeHost) -> None:
    """`reindex` reports how much was read and how much was corrected."""
    ended = await hive.run("proposals", "reindex")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "proposals: 7, agents: 2, work: 3, repositories: 1, index entries corrected: 1\n"
    answer = ReindexAnswer.model_validate((await hive.run("proposals", "reindex", "--json")).json)
    assert answer == ReindexAnswer(agents=2, proposals=7, repositories=1, work=3, changed=1)


async def test_history(hive: Program, daemon: FakeHost) -> None:
    """`history` lists deployments, with a mark at the one in force."""
    daemon.gate.deployments = [
        Deployment(
            number=4, kind="rollback", commit="a" * 40, closure="/c/1", by="operator:root", approved_by=["operator"],
            note="it was slow\nvery\x1b", deployed_at=ago(minutes=4), current=True,
        ),
        Deployment(
            number=0, kind="spawn", commit="b" * 40, closure="/c/0", by="operator:root",
            approved_by=["operator", "hm1nd"], note="", deployed_at=ago(hours=3), current=False,
        ),
    ]  # fmt: skip
    ended = await hive.run("history", "ada")
    assert (ended.code, ended.err) == (0, "")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["NUMBER", "KIND", "DEPLOYED", "COMMIT", "BY", "APPROVED", "BY", "NOTE"]
    assert first.split() == [
        "*4", "rollback", "4", "min", "ago", "a" * 12, "operator:root", "operator", "it", "was", "slow", "…",
    ]  # fmt: skip
    assert second.split() == ["0", "spawn", "3", "h", "ago", "b" * 12, "operator:root", "operator,", "hm1nd"]
    assert daemon.asked == [("GET", "/v1/agents/ada/history", HistoryQuery())]
    answer = History.model_validate((await hive.run("history", "ada", "-n", "2", "--offset", "1", "--json")).json)
    assert answer.deployments == daemon.gate.deployments
    assert daemon.asked[-1][2] == HistoryQuery(limit=2, offset=1)


async def test_history_of_nothing(hive: Program, daemon: FakeHost) -> None:
    """That there are no deployments is said, but not on stdout."""
    ended = await hive.run("history", "ada")
    assert (ended.code, ended.out, ended.err) == (0, "", "no deployments to show\n")


DIFF = """\
diff --git a/prompt.md b/prompt.md
index 1..2 100644
--- a/prompt.md
+++ b/prompt.md
@@ -1,2 +1,2 @@
 You count.
-- slowly
+++ b/agent.toml \x1b[2J
"""


async def test_diff(hive: Program, daemon: FakeHost) -> None:
    """Without a terminal the diff is as git writes it, but for what a terminal would act on; --json has it as it is."""
    daemon.gate.proposals = [proposal(diff=DIFF, diff_bytes=len(DIFF))]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == DIFF.replace("\x1b", "\\x1b")
    answer = ProposalDetail.model_validate((await hive.run("proposals", "diff", "ada", "3", "--json")).json)
    assert answer.diff == DIFF


async def test_a_cut_diff_says_so(hive: Program, daemon: FakeHost) -> None:
    """That a diff was cut, and how to see all of it, stands on stderr; so does that there is none."""
    daemon.gate.proposals = [proposal(diff=DIFF, diff_bytes=100_000)]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert "the diff has 100000 bytes; to see all of it" in ended.err
    assert f"applied/ada.git diff --text --no-ext-diff --no-textconv {'b' * 40} {'c' * 40}" in ended.err
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert (ended.out, ended.err) == ("", "the files do not change\n")


async def test_files_are_named_before_the_diff(hive: Program, daemon: FakeHost) -> None:
    """`show` lists all changed files first; `diff` names those that it does not show whole before the others."""
    files = [
        ChangedFile(path="agent.nix", change="changed", size=80_000, shown=60_000),
        ChangedFile(path="x\x1b[2J", change="added", size=10, shown=10),
    ]
    daemon.gate.proposals = [proposal(files=files, diff=DIFF, diff_bytes=80_010)]
    ended = await hive.run("proposals", "show", "ada", "3")
    listing = (
        "Changed files\n"
        "  changed, 78.1 KiB of diff, ONLY 58.6 KiB SHOWN: agent.nix\n"
        "  added, 10 bytes of diff: x\\x1b[2J\n"
    )
    assert listing in ended.out and ended.out.index(listing) < ended.out.index("\nNote\n")
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert ended.err.startswith(
        "files that change: 2; of these, not all is shown here:\n"
        "  changed, 78.1 KiB of diff, ONLY 58.6 KiB SHOWN: agent.nix\n"
        "the diff has 80010 bytes; to see all of it, run on the host:\n"
    )


async def test_diff_on_a_terminal(hive: Program, daemon: FakeHost) -> None:
    """On a terminal the diff has colours of ours and none of the agent's."""
    daemon.gate.proposals = [proposal(diff=DIFF, diff_bytes=len(DIFF))]
    _, shown = await on_terminal(hive, "proposals", "diff", "ada", "3")
    assert "\x1b[32m+++ b/agent.toml \\x1b[2J\x1b[0m\n" in shown
    assert "\x1b[2J" not in shown


def test_diff_colours() -> None:
    """In a hunk added lines are green and removed ones red, also those that look like a header; headers are bold."""
    styles = [line.partition("m")[0] for line in coloured(DIFF)]
    bold, cyan, green, red = "\x1b[1", "\x1b[36", "\x1b[32", "\x1b[31"
    assert [style for style in styles if style.startswith("\x1b")] == [bold] * 4 + [cyan, red, green]
    assert [click.unstyle(line) for line in coloured(DIFF)] == DIFF.replace("\x1b", "\\x1b").splitlines()
    assert list(coloured("")) == []


async def test_log(hive: Program, daemon: FakeHost) -> None:
    """`log` prints what the build printed, each line on one line."""
    daemon.gate.proposals = [proposal()]
    answer = LogsAnswer(lines=["one", "\x1b[2Jtwo\nthree"], cursor="5")
    daemon.gate.logs = [answer, answer]
    ended = await hive.run("proposals", "log", "ada", "3", "-n", "2")
    assert (ended.code, ended.out, ended.err) == (0, "one\n\\x1b[2Jtwo\\nthree\n", "")
    assert daemon.asked == [("GET", "/v1/proposals/ada/3/log", LogsQuery(lines=2))]
    assert LogsAnswer.model_validate((await hive.run("proposals", "log", "ada/3", "--json")).json) == answer


async def test_log_followed(hive: Program, daemon: FakeHost) -> None:
    """`log -f` goes on until the build is over, and then with nothing left unread ends by itself."""
    daemon.gate.proposals = [proposal(state="building", waits_for=None)]
    daemon.gate.logs = [LogsAnswer(lines=[word], cursor=word) for word in ("one", "two", "three")]
    ended = await hive.run("proposals", "log", "ada", "3", "-f")
    assert (ended.code, ended.out, ended.err) == (0, "one\ntwo\nthree\n", "")
    asked = [query for _, path, query in daemon.asked if path.endswith("/log")]
    assert [getattr(query, "cursor", None) for query in asked] == [None, "one", "two", "three"]
    assert isinstance(asked[-1], LogsQuery)
    assert asked[-1].wait_seconds == 0


async def test_log_of_what_is_built(hive: Program, daemon: FakeHost) -> None:
    """`log -f` of a build that is over shows it and ends."""
    daemon.gate.proposals = [proposal()]
    daemon.gate.logs = [LogsAnswer(lines=["done"], cursor="1")]
    ended = await hive.run("proposals", "log", "ada/3", "-f")
    assert (ended.code, ended.out) == (0, "done\n")
    assert daemon.asked[0] == ("GET", "/v1/proposals/ada/3", ProposalQuery())


async def test_prune(hive: Program, daemon: FakeHost) -> None:
    """`prune` shows for each agent what was removed and how much space is used; ages have units."""
    daemon.gate.pruned = [
        PrunedAgent(agent="ada", proposals=[3, 5], freed_bytes=2 * 1024 * 1024, used_bytes=1024 * 1024),
        PrunedAgent(agent="bob", proposals=[], freed_bytes=0, used_bytes=0),
    ]
    ended = await hive.run("proposals", "prune", "ada", "--older-than", "12h")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "ada: proposals 3, 5: freed 2.0 MiB; 1.0 MiB of 64.0 MiB are used\n"
    assert daemon.asked[-1][2] == PruneRequest(agent="ada", older_than_days=0.5)
    ended = await hive.run("proposals", "prune", "--dry-run")
    assert ended.out == "ada: proposals 3, 5: would free about 2.0 MiB; 1.0 MiB of 64.0 MiB are used\n"
    assert daemon.asked[-1][2] == PruneRequest(older_than_days=30, dry_run=True)
    answer = PruneAnswer.model_validate((await hive.run("proposals", "prune", "--json")).json)
    assert answer.agents == daemon.gate.pruned
    daemon.gate.pruned = []
    ended = await hive.run("proposals", "prune")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("there is nothing to remove")
    refused = await hive.run("proposals", "prune", "--older-than", "soon")
    assert refused.code == 2 and "write 30d, 12h or 30m" in refused.err
