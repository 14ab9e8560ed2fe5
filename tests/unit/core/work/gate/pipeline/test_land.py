"""Work from its submission to its landing."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from hive_core.errors import HiveError
from hive_core.gate.subject import background
from hive_core.gate.subject.background import BackgroundWork
from hive_core.infra.git import trees
from hive_core.infra.git.comparison import whole_diff
from hive_core.protocol import FileDiffQuery
from hive_core.work.gate.interfaces import MergedWork
from hive_core.work.gate.pipeline import decide
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.repository_proposals import PullRequest
from tests.unit.core.work.gate.work_hive import ADA, BOB, MANAGER, OPERATOR, FakeCheck, WorkHive, git


async def test_approved_work_is_on_the_branch(hive: WorkHive) -> None:
    """Submitted work without checks waits for its decision, and lands by fast-forward when it is approved."""
    work = await hive.built({"app.py": "def f():\n    return 2\n"})
    assert work.waits_for == "manager" and work.checks == []
    await hive.approve(work.number)
    landed = await hive.until(work.number, "deployed")
    assert landed.landed == work.commit == hive.tip()
    assert set(hive.work().tags()) == {
        f"{state}/1" for state in ("proposal", "building", "built", "approved", "deployed")
    }
    assert [text.partition("\n")[0] for text in await hive.messages("ada")] == [
        f"Work web/1 has landed: the branch is at {work.commit} now."
    ]
    assert (await hive.messages("hm1nd"))[0].startswith("Review work web/1: approve or deny it (state built).\n")
    await hive.check()


async def test_refusals_name_states_in_the_words_of_the_commands(hive: WorkHive) -> None:
    """A late decision on landed work, or a withdrawal, says that it has landed, and not that it is deployed."""
    work = await hive.built({"app.py": "x\n"})
    with pytest.raises(HiveError, match="web/1 is checked, not failed or withdrawn"):
        await hive.retry(work.number)
    await hive.approve(work.number)
    await hive.until(work.number, "deployed")
    for late in (hive.approve(work.number), hive.withdraw(work.number)):
        with pytest.raises(HiveError, match="web/1 has landed already") as refused:
            await late
        assert refused.value.code == "stale_state"


async def test_failed_checks_end_work_and_tell_why(hive: WorkHive) -> None:
    """Work whose checks fail is decided on by nobody; its maker gets the reason and the end of the log."""
    hive.set(checks=[FakeCheck("test")])
    sha = hive.commit({"BROKEN": "x"})
    number = (await hive.submit(sha)).number
    work = await hive.until(number, "failed")
    assert (work.outcome, work.checks) == ("the check test failed: exit code 1", ["test: exit code 1"])
    (text,) = await hive.messages("ada")
    assert text.startswith("Work web/1 failed.\n") and "Z it is broken" in text
    assert await hive.messages("hm1nd") == []
    await hive.check()


async def test_branch_that_went_on_needs_a_rebase(hive: WorkHive) -> None:
    """Without merges, work on an older commit of the branch fails with the commit to rebase onto; nothing lands."""
    work = await hive.built({"a": "1"})
    tip = hive.land_elsewhere({"b": "2"})
    await hive.approve(work.number)
    failed = await hive.until(work.number, "failed")
    assert f"rebase the work onto {tip}" in failed.outcome
    assert hive.tip() == tip
    await hive.check()


async def test_merged_tree_is_checked(hive: WorkHive) -> None:
    """With merges, the branch gets a merge whose tree has passed the checks once more."""
    hive.set(merges=True, checks=[FakeCheck("test")])
    work = await hive.built({"a": "1"})
    hive.land_elsewhere({"b": "2"})
    await hive.approve(work.number)
    landed = await hive.until(work.number, "deployed")
    assert landed.landed == hive.tip() != work.commit
    tree = git(hive.layout.mirror("web"), "rev-parse", f"{landed.landed}^{{tree}}")
    assert hive.outside.checked[-1] == (1, tree)
    await hive.check()


async def test_checks_that_came_later_are_run_before_a_landing(hive: WorkHive) -> None:
    """Work that was built before the operator added a check lands only if its tree passes that check, too."""
    fine, broken = await hive.built({"a": "1"}), await hive.built({"BROKEN": "x"}, BOB)
    assert hive.outside.checked == []
    hive.set(checks=[FakeCheck("test")])
    for number in (broken.number, fine.number):
        await hive.approve(number)
    failed = await hive.until(broken.number, "failed")
    assert failed.outcome.startswith("it does not pass the checks that web has now: the check test failed: exit code 1")
    assert "Z it is broken" in (await hive.messages("bob"))[-1]
    assert (await hive.until(fine.number, "deployed")).landed == fine.commit == hive.tip()
    await hive.check()


async def test_checks_that_change_during_a_landing_count(hive: WorkHive) -> None:
    """Checks that the operator changes while work is checked for its landing are run before it lands."""
    work = await hive.built({"a": "1"})
    hive.set(checks=[FakeCheck("test")])
    hive.outside.may_check.clear()
    await hive.approve(work.number)
    while not hive.outside.waiting:
        await asyncio.sleep(0.005)
    hive.set(checks=[FakeCheck("test"), FakeCheck("lint")])
    hive.outside.may_check.set()
    await hive.until(work.number, "deployed")
    assert [number for number, _ in hive.outside.checked] == [work.number] * 2


async def test_landed_work_is_published_once(hive: WorkHive) -> None:
    """Landed work is published until that succeeds, and the link is kept with it; a retry does it at once."""
    hive.set(push="branch")
    hive.publisher.unpublishable.append(HiveError("upstream_unreachable", "no route", status=503))
    work = await hive.built({"a": "1"})
    await hive.approve(work.number)
    await hive.publisher.failed.wait()
    assert ((await hive.show(1)).problem, (await hive.show(1, ADA)).problem) == ("no route", "")
    with pytest.raises(HiveError, match="not failed or withdrawn"):
        await hive.retry(1, ADA)
    assert (await hive.retry(1)).number == 1
    assert (await hive.published(1)).link == "https://forge.example/web/pulls/1"
    assert hive.publisher.published == [(1, work.commit)]
    assert (await hive.show(1)).problem == ""
    with pytest.raises(HiveError, match="published already"):
        await hive.retry(1)
    await hive.check()


async def test_landed_work_is_published_when_the_operator_wants_it_later(hive: WorkHive) -> None:
    """Work that landed while nothing was pushed is published as soon as the operator changes that."""
    work = await hive.built({"a": "1"})
    await hive.approve(work.number)
    await hive.until(1, "deployed")
    with pytest.raises(HiveError, match="landed work of web is not pushed"):
        await hive.retry(1)
    hive.set(push="branch")
    await hive.gate.repository_changed("web")
    await hive.published(1)
    assert hive.publisher.published == [(1, work.commit)]


async def test_the_pull_request_of_a_landed_commit_is_known(hive: WorkHive) -> None:
    """The registry gets the pull request of the work that moved the branch, and whether upstream has merged it."""
    hive.set(push="pull-request")
    first = await hive.built({"a": "1"})
    assert await hive.gate.pull_request_of("web", first.commit) is None
    await hive.approve(first.number)
    link = (await hive.published(first.number)).link
    assert await hive.gate.pull_request_of("web", first.commit) == PullRequest("web/1", link, "")
    hive.publisher.merges[link] = "b" * 40
    assert await hive.gate.pull_request_of("web", first.commit) == PullRequest("web/1", link, "b" * 40)
    assert await hive.gate.pull_request_of("web", first.base) is None


UNREACHABLE = HiveError("upstream_unreachable", "no route to the server", status=502)


async def test_landing_waits_for_upstream_where_it_is_pushed(hive: WorkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream is fetched before a landing; where it cannot be, work that is pushed waits, and says why."""
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    hive.set(source="https://git.example/web", push="branch")
    work = await hive.built({"a": "1"})
    tries: list[str] = []
    waited = asyncio.Event()

    def fail_twice() -> None:
        tries.append(hive.tip())
        if len(tries) == 2:
            waited.set()
        if len(tries) < 3:
            raise UNREACHABLE

    hive.mirrors.on_fetch = fail_twice
    await hive.approve(work.number)
    await waited.wait()
    assert (await hive.show(1)).state == "approved" or len(tries) > 2
    await hive.until(1, "deployed")
    assert set(tries) == {work.base} and hive.tip() == work.commit
    await hive.published(1)
    await hive.check()


async def test_landing_that_waits_says_why(hive: WorkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approved work that waits for upstream is shown with the reason, to those who can do something about it."""
    hive.set(source="https://git.example/web", push="branch")
    work = await hive.built({"a": "1"})
    failed = asyncio.Event()
    monkeypatch.setattr(BackgroundWork, "_log_failure", lambda *_, **__: failed.set())

    def fail() -> None:
        raise UNREACHABLE

    hive.mirrors.on_fetch = fail
    await hive.approve(work.number)
    await failed.wait()
    detail = await hive.show(1)
    assert (detail.state, detail.problem) == (
        "approved",
        "web cannot be fetched before a landing: no route to the server",
    )
    assert (await hive.show(1, ADA)).problem == ""
    assert hive.tip() == work.base


async def test_landing_goes_on_without_upstream_where_nothing_is_pushed(hive: WorkHive) -> None:
    """Work that stays in the mirror lands also while upstream cannot be reached."""
    hive.set(source="https://git.example/web")
    work = await hive.built({"a": "1"})

    def fail() -> None:
        raise UNREACHABLE

    hive.mirrors.on_fetch = fail
    await hive.approve(work.number)
    await hive.until(1, "deployed")
    assert hive.mirrors.fetches == ["web"] and hive.tip() == work.commit


async def test_commits_that_the_fetch_brings_are_landed_upon(hive: WorkHive) -> None:
    """Work lands on what upstream has at the landing, not on what it had at the submission."""
    hive.set(source="https://git.example/web", merges=True)
    work = await hive.built({"a": "1"})
    theirs: list[str] = []
    hive.mirrors.on_fetch = lambda: theirs.append(hive.land_elsewhere({"b": "2"}))
    await hive.approve(work.number)
    landed = await hive.until(1, "deployed")
    assert landed.landed is not None
    parents = git(hive.layout.mirror("web"), "rev-list", "--parents", "-1", landed.landed).split()[1:]
    assert parents == [theirs[0], work.commit]
    await hive.check()


async def test_nobody_decides_on_their_own_work(hive: WorkHive) -> None:
    """Whoever submitted work does not approve it, and another decider is asked in their place."""
    work = await hive.built({"a": "1"}, MANAGER)
    assert work.waits_for == "operator"
    with pytest.raises(HiveError, match="submitted web/1") as refused:
        await hive.approve(work.number, MANAGER)
    assert refused.value.code == "own_proposal"
    await hive.approve(work.number, OPERATOR)
    await hive.until(work.number, "deployed")


async def test_an_agent_reviews(hive: WorkHive) -> None:
    """An agent that is the reviewer of a repository sees its work and decides on it; others do neither."""
    hive.set(review="agent:bob")
    work = await hive.built({"a": "1"})
    assert work.waits_for == "agent:bob"
    assert (await hive.show(work.number, BOB)).diff
    await hive.approve(work.number, BOB)
    await hive.until(work.number, "deployed")
    hive.set(review="manager")
    with pytest.raises(HiveError) as unseen:
        await hive.show(work.number, BOB)
    assert unseen.value.code == "unknown_work"
    assert (await hive.show(work.number, ADA)).state == "deployed"


async def test_files_are_compared_one_by_one(hive: WorkHive) -> None:
    """The diff of one file of work is found by its place, whatever bytes its name has."""
    work = await hive.built({"app.py": "def f():\n        return 1\n", "n\udcff\\x": "new\n"})
    names = [file.path for file in work.files]
    assert names == ["app.py", "n\\xff\\x"]
    ignoring = FileDiffQuery(whitespace="ignored")
    first, second = [await hive.gate.queries.file_diff("web", 1, file, ignoring, OPERATOR) for file in (0, 1)]
    assert (first.path, first.diff) == ("app.py", "")
    assert second.diff.endswith("+new\n")
    with pytest.raises(HiveError) as unseen:
        await hive.gate.queries.file_diff("web", 1, 0, ignoring, BOB)
    assert unseen.value.code == "unknown_work"


async def test_comments_reach_who_submitted(hive: WorkHive) -> None:
    """A remark on a line is kept with the work, and its maker gets it quoted."""
    work = await hive.built({"a": "1\n2\n"})
    await hive.comment(work.number, "Why two?\nApprove it", path="a", line=2)
    (kept,) = (await hive.show(work.number)).comments
    assert (kept.by, kept.path, kept.line, kept.text) == ("hm1nd", "a", 2, "Why two?\nApprove it")
    (text,) = await hive.messages("ada")
    assert text.startswith("hm1nd commented on work web/1 (state built).\n")
    assert "line 2:\n> a" in text and "> Why two?\n> Approve it" in text


async def test_remarks_are_limited_also_at_once(hive: WorkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A party that sends many remarks at once gets no more of them in than one by one."""
    monkeypatch.setattr(decide, "_MAX_COMMENTS", 2)
    work = await hive.built({"a": "1"})
    ends = await asyncio.gather(*(hive.comment(work.number, "x") for _ in range(5)), return_exceptions=True)
    assert [end.code for end in ends if isinstance(end, HiveError)] == ["too_many_comments"] * 3
    assert len((await hive.show(work.number)).comments) == 2


async def test_work_that_cannot_be_shown_is_decided_on(hive: WorkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work whose files take too long to read waits for its decision all the same, and names every file as not shown."""

    def slow(*_: object, **__: object) -> NoReturn:
        raise HiveError("git_slow", "too slow", status=503)

    monkeypatch.setattr(trees, "diff", slow)
    monkeypatch.setattr(whole_diff, "whole_diff", slow)
    work = await hive.built({"a": "1", "README": "other\n"})
    assert [(file.path, file.change, file.shown) for file in work.files] == [
        ("README", "changed", 0),
        ("a", "added", 0),
    ]
    (asked,) = await hive.messages("hm1nd")
    assert "Changed files: 2. Of 2 this message does not show all" in asked


async def test_failed_work_is_tried_again(hive: WorkHive) -> None:
    """A retry is a new proposal of the same commit by the same party, which nobody may approve who made it."""
    hive.set(checks=[FakeCheck("test")])
    number = (await hive.submit(hive.commit({"BROKEN": "x"}))).number
    await hive.until(number, "failed")
    hive.set()
    again = await hive.retry(number)
    assert (again.number, again.by, again.commit) == (2, "ada", (await hive.show(1)).commit)
    await hive.until(2, "built")
    await hive.check()


async def test_work_that_cannot_land_is_not_tried_again(hive: WorkHive) -> None:
    """A retry of work that the branch has left behind is refused without merges, and says who has to rebase it."""
    old = await hive.built({"mine": "x\n"})
    tip = await asyncio.to_thread(hive.land_elsewhere, {"other": "y\n"})
    await hive.approve(old.number)
    assert "the branch has gone on" in (await hive.until(old.number, "failed")).outcome
    with pytest.raises(HiveError, match=f"the branch 'main' has gone on to {tip}") as refused:
        await hive.retry(old.number)
    assert refused.value.code == "not_rebased" and "have ada rebase it" in refused.value.hint
    hive.set(merges=True)
    again = await hive.retry(old.number)
    await hive.until(again.number, "built")
    await hive.check()


async def test_queue_with_conflicts_ends_right(hive: WorkHive) -> None:
    """Of 20 approved proposals, those without a conflict land one on top of the other; the rest are told to rebase."""
    hive.set(merges=True, review="operator")
    numbers = []
    tip = hive.tip()
    for count in range(20):
        # Every fourth one changes the same file.
        files = {"shared": f"{count}\n"} if count % 4 == 0 else {f"own-{count}": "x\n"}
        sha = hive.commit(files, "ada" if count % 2 else "bob", on=None)
        numbers.append((await hive.submit(sha, ADA if count % 2 else BOB)).number)
    for number in numbers:
        await hive.until(number, "built")
    assert hive.tip() == tip
    for number in numbers:
        await hive.approve(number, OPERATOR)
    await hive.settled()
    ends = {row.number: row for row in await hive.rows()}
    conflicting = [number for count, number in enumerate(numbers) if count % 4 == 0]
    assert [ends[number].state for number in conflicting] == ["deployed", *["failed"] * 4]
    assert all("conflicts with the branch in 'shared'" in ends[number].outcome for number in conflicting[1:])
    assert all(ends[number].state == "deployed" for number in numbers if number not in conflicting)
    assert len(git(hive.layout.mirror("web"), "ls-tree", "-r", "--name-only", "main").split("\n")) == 2 + 1 + 15
    await hive.check()


async def test_history_that_was_taken_out_stays_out(hive: WorkHive) -> None:
    """Work on a commit that upstream has taken out of its history does not bring that commit back when it lands."""
    hive.set(merges=True)
    first, secret = hive.tip(), hive.land_elsewhere({"secret": "x"})
    work = await hive.built({"a": "1"})
    assert work.base == secret
    git(hive.layout.mirror("web"), "update-ref", "refs/heads/main", first)
    await hive.approve(work.number)
    failed = await hive.until(work.number, "failed")
    assert f"no longer has {secret}" in failed.outcome and f"rebase the work onto {first}" in failed.outcome
    assert hive.tip() == first
    await hive.check()


async def test_work_lands_on_the_branch_that_it_was_approved_for(hive: WorkHive) -> None:
    """When the operator has chosen another branch meanwhile, approved work lands on neither."""
    mirror, first = hive.layout.mirror("web"), hive.tip()
    git(mirror, "update-ref", "refs/heads/release", first)
    work = await hive.built({"a": "1"})
    hive.set(branch="release")
    await hive.approve(work.number)
    failed = await hive.until(work.number, "failed")
    assert "it was approved for the branch" in failed.outcome
    assert git(mirror, "rev-parse", "refs/heads/release") == hive.tip() == first


@pytest.mark.parametrize("code", ["merge_failed", "merge_slow"])
async def test_work_that_cannot_be_merged_goes_back(hive: WorkHive, code: str) -> None:
    """Work that git cannot merge, or not in time, ends and is rebased, instead of holding up the others for good."""

    async def merge(row: WorkRow, branch: str) -> MergedWork:
        raise HiveError(code, "git merge-tree failed", status=503)

    hive.gate.decisions._land_step._merger = merge
    hive.set(merges=True)
    work = await hive.built({"a": "1"})
    tip = hive.land_elsewhere({"b": "2"})
    await hive.approve(work.number)
    failed = await hive.until(work.number, "failed")
    assert "git merge-tree failed" in failed.outcome and f"rebase the work onto {tip}" in failed.outcome


async def test_removed_repository_ends_its_work(hive: WorkHive) -> None:
    """When a repository is removed, its open work ends, who is concerned is told, and its proposals are deleted."""
    work = await hive.built({"a": "1"})
    assert await hive.gate.open_work("web") == [f"web/{work.number}"]
    del hive.mirrors.found["web"]
    await hive.gate.forget_repository("web")
    assert await hive.rows() == [] and not hive.layout.work_repository("web").exists()
    assert (await hive.messages("ada"))[-1].startswith("Work web/1 was withdrawn by system.\n")
    assert (await hive.gate.verification.verify()).problems == []


async def test_removed_repository_publishes_nothing_more(hive: WorkHive) -> None:
    """A publication that is still to be repeated ends with its repository, as another one may get its name."""
    hive.set(push="branch")
    hive.publisher.unpublishable += [HiveError("upstream_unreachable", "no route", status=503)] * 100
    work = await hive.built({"a": "1"})
    await hive.approve(work.number)
    await hive.until(work.number, "deployed")
    del hive.mirrors.found["web"]
    await hive.gate.forget_repository("web")
    assert not hive.gate._context.background.is_under_way("web", work.number)
    assert hive.publisher.published == []
