"""`hive-c0re proposals diff` and `log`: long texts of agents."""

from __future__ import annotations

import click

from hive_core.cli.diff_lines import coloured
from hive_core.protocol import LogsAnswer, LogsQuery, ProposalDetail, ProposalQuery
from tests.unit.cli.test_terminal import on_terminal
from tests.unit.core.cli.fake_host_api import StandIn
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program

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


async def test_diff(hive: Program, daemon: StandIn) -> None:
    """Without a terminal the diff is as git writes it, but for what a terminal would act on; --json has it as it is."""
    daemon.gate.proposals = [proposal(diff=DIFF, diff_bytes=len(DIFF))]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == DIFF.replace("\x1b", "\\x1b")
    answer = ProposalDetail.model_validate((await hive.run("proposals", "diff", "ada", "3", "--json")).json)
    assert answer.diff == DIFF


async def test_a_cut_diff_says_so(hive: Program, daemon: StandIn) -> None:
    """That a diff was cut, and how to see all of it, stands on stderr; so does that there is none."""
    daemon.gate.proposals = [proposal(diff=DIFF, diff_bytes=100_000)]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert f"the first {len(DIFF)} of 100000 bytes" in ended.err
    assert f"applied/ada.git diff {'b' * 40} {'c' * 40}" in ended.err
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("proposals", "diff", "ada", "3")
    assert (ended.out, ended.err) == ("", "nothing changes in the files\n")


async def test_diff_on_a_terminal(hive: Program, daemon: StandIn) -> None:
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


async def test_log(hive: Program, daemon: StandIn) -> None:
    """`log` prints what the build printed, each line on one line."""
    daemon.gate.proposals = [proposal()]
    answer = LogsAnswer(lines=["one", "\x1b[2Jtwo\nthree"], cursor="5")
    daemon.gate.logs = [answer, answer]
    ended = await hive.run("proposals", "log", "ada", "3", "-n", "2")
    assert (ended.code, ended.out, ended.err) == (0, "one\n\\x1b[2Jtwo\\nthree\n", "")
    assert daemon.asked == [("GET", "/v1/proposals/ada/3/log", LogsQuery(lines=2))]
    assert LogsAnswer.model_validate((await hive.run("proposals", "log", "ada/3", "--json")).json) == answer


async def test_log_followed(hive: Program, daemon: StandIn) -> None:
    """`log -f` goes on until the build is over, and then with nothing left unread ends by itself."""
    daemon.gate.proposals = [proposal(state="building", waits_for=None)]
    daemon.gate.logs = [LogsAnswer(lines=[word], cursor=word) for word in ("one", "two", "three")]
    ended = await hive.run("proposals", "log", "ada", "3", "-f")
    assert (ended.code, ended.out, ended.err) == (0, "one\ntwo\nthree\n", "")
    asked = [query for _, path, query in daemon.asked if path.endswith("/log")]
    assert [getattr(query, "cursor", None) for query in asked] == [None, "one", "two", "three"]
    assert isinstance(asked[-1], LogsQuery)
    assert asked[-1].wait_seconds == 0


async def test_log_of_what_is_built(hive: Program, daemon: StandIn) -> None:
    """`log -f` of a build that is over shows it and ends."""
    daemon.gate.proposals = [proposal()]
    daemon.gate.logs = [LogsAnswer(lines=["done"], cursor="1")]
    ended = await hive.run("proposals", "log", "ada/3", "-f")
    assert (ended.code, ended.out) == (0, "done\n")
    assert daemon.asked[0] == ("GET", "/v1/proposals/ada/3", ProposalQuery())
