"""`hive-c0re work`: looking at what agents have submitted for a repository."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from hive_core.cli.commands.work.work_names import work_expect_option
from hive_core.protocol import WorkComment, WorkCommit, WorkDetail, WorkFile, WorkList, WorkProposal
from tests.unit.core.cli.commands.work import fake_host_work
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


def work(**changes: object) -> WorkDetail:
    """Work of three minutes ago whose texts would act on a terminal, with `changes`."""
    texts: dict[str, object] = {
        "title": "Mend \x1b[2J it\nnow", "diff": "+one\x1b[2J\n", "diff_bytes": 9, "commit_count": 1,
        "commits": [WorkCommit(commit="c" * 40, author="A <a@b>", committer="A <a@b>", subject="Mend")],
        "files": [WorkFile(path="a\x1b.py", change="changed", size=9, shown=9, kind="executable", is_text=True)],
        "comments": [
            WorkComment(id=1, by="hm1nd", at=datetime.now(UTC), path="a.py", line=2, text="Why \x1b two?")
        ],
    }  # fmt: skip
    return fake_host_work.work(**(texts | changes))


def listing(*found: WorkDetail, total: int) -> bytes:
    each = [
        WorkProposal.model_validate({name: getattr(one, name) for name in WorkProposal.model_fields}) for one in found
    ]
    return WorkList(work=each, total=total).model_dump_json().encode()


async def test_list(hive: Program, daemon: FakeHost) -> None:
    """Each proposal is a line with whom it waits for; a title neither acts on a terminal nor begins a line."""
    daemon.raw = listing(work(), work(number=2, state="failed", waits_for=None), total=5)
    ended = await hive.run("work")
    assert (ended.code, ended.err) == (0, "more, older work: 3\n")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["WORK", "STATE", "WAITS", "FOR", "BY", "SUBMITTED", "TITLE"]
    assert first.startswith("web/3") and "the manager" in first and "\\x1b[2J" in first
    assert first.split()[1] == "checked"
    assert second.split()[:3] == ["web/2", "failed", "-"]


async def test_show(hive: Program, daemon: FakeHost) -> None:
    """Everything that a decision needs is shown, with the words of agents marked as theirs and escaped."""
    daemon.raw = work().model_dump_json().encode()
    ended = await hive.run("work", "show", "web/3")
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    for line in (
        "Work: web/3, for the branch main",
        "Waits for: the manager",
        "Description, in the words of who submitted it:\n  Why.",
        "Checks:\n  test: passed",
        "hm1nd on a.py:2",
        "executable: ",
    ):
        assert line in ended.out


async def test_show_says_what_keeps_it(hive: Program, daemon: FakeHost) -> None:
    """Work that waits for its landing or its publication is shown with the reason."""
    daemon.raw = work(state="approved", waits_for=None, problem="no route").model_dump_json().encode()
    assert "Not landed yet: no route; it is tried again\n" in (await hive.run("work", "show", "web/3")).out
    landed = work(state="deployed", waits_for=None, landed="d" * 40, problem="no route")
    daemon.raw = landed.model_dump_json().encode()
    assert "Not published yet: no route; it is tried again\n" in (await hive.run("work", "show", "web/3")).out


async def test_diff(hive: Program, daemon: FakeHost) -> None:
    """The diff is printed escaped; of one that is cut, the command for all of it is named."""
    daemon.raw = work().model_dump_json().encode()
    ended = await hive.run("work", "diff", "web/3")
    assert (ended.code, ended.out, ended.err) == (0, "+one\\x1b[2J\n", "")
    daemon.raw = work(diff_bytes=99).model_dump_json().encode()
    ended = await hive.run("work", "diff", "web/3")
    assert f"work/web.git diff {'b' * 40} {'c' * 40}" in ended.err
    daemon.raw = work(diff="", diff_bytes=0, pruned=True).model_dump_json().encode()
    assert (await hive.run("work", "diff", "web/3")).err == "its files were removed\n"


async def test_names_that_are_none(hive: Program, daemon: FakeHost) -> None:
    """A name that is no work's is refused before anything is asked."""
    for name in ("web", "web/x", "/3", "web/../3"):
        ended = await hive.run("work", "show", name)
        assert ended.code != 0 and ended.out == ""
    assert daemon.asked == []


@pytest.mark.parametrize("word", ["checked", "built"])
def test_a_decision_expects_a_state_in_the_words_of_the_tables(word: str) -> None:
    """`--expect` takes the words that the tables show, and the protocol's; the daemon gets the protocol's."""
    command = click.Command("approve", params=[], callback=lambda expect: expect)
    assert work_expect_option(command).main(["--expect", word], standalone_mode=False) == "built"
    assert command.main([], standalone_mode=False) == "built"
    with pytest.raises(click.BadParameter, match="'submitted', 'checking', 'checked', 'approved'"):
        command.main(["--expect", "deployed"], standalone_mode=False)
