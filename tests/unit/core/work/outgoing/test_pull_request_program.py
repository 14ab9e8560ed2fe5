"""Pull requests at stand-ins of GitHub's and Forgejo's REST interfaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from hive_core.work.outgoing.pull_request_program import Outcome, PullRequestOrder, open_pull_request
from tests.helpers.fake_forges import NAME, OWNER, TOKEN, FakeForge, fake_forge

Kind = Literal["github", "forgejo"]


@pytest.fixture(params=["github", "forgejo"])
async def forge(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeForge]:
    async with fake_forge(tmp_path, request.param) as started:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(started.authority))
        yield started


def wanted(forge: FakeForge, head: str = "hive-3-abc") -> PullRequestOrder:
    return PullRequestOrder(forge.server, OWNER, NAME, head, "main", "web/3: Title", "Text")


async def test_a_pull_request_is_opened_once(forge: FakeForge) -> None:
    """The first call opens it, and every later call finds it, also when it was closed."""
    first = await open_pull_request(wanted(forge), TOKEN)
    assert (first.problem, first.kind, first.number, first.created) == ("", forge.kind, 7, True)
    again = await open_pull_request(wanted(forge), TOKEN)
    assert again == replace(first, created=False)
    forge.pulls[0]["state"] = "closed"
    assert (await open_pull_request(wanted(forge), TOKEN)).number == 7
    assert [(pull["title"], pull["body"]) for pull in forge.pulls] == [("web/3: Title", "Text")]


async def test_the_token_is_sent_only_to_the_interface(forge: FakeForge) -> None:
    """Until a server has shown which interface it has, it does not get the token."""
    await open_pull_request(wanted(forge), TOKEN)
    with_token = [path for _, path, authorization in forge.requests if authorization]
    assert with_token
    assert all(f"/repos/{OWNER}/{NAME}/pulls" in path for path in with_token)
    assert [path for _, path, authorization in forge.requests if not authorization]


async def test_a_lost_answer_opens_no_second_one(forge: FakeForge) -> None:
    """The connection breaks after the pull request was opened: the next call finds it."""
    asks = len(forge.requests)
    await open_pull_request(wanted(forge, "other"), TOKEN)
    before_post = len(forge.requests) - asks - 1
    forge.faults = [0] * before_post + ["drop"]
    assert (await open_pull_request(wanted(forge), TOKEN)).problem == "unreachable"
    assert (await open_pull_request(wanted(forge), TOKEN)).number == 8
    assert len(forge.pulls) == 2


async def test_one_that_is_not_found_by_its_branch_is_found_in_the_list(forge: FakeForge) -> None:
    """Where a version cannot look for a branch, the refusal of a second pull request leads to the first."""
    forge.old = True
    for number in range(30):
        forge.add_pull(f"other-{number}", "main")
    forge.add_pull("hive-3-abc", "main", owner="mallory")
    first = await open_pull_request(wanted(forge), TOKEN)
    assert (first.number, first.created) == (38, True)
    for number in range(30):
        forge.add_pull(f"later-{number}", "main")
    again = await open_pull_request(wanted(forge), TOKEN)
    assert (again.number, again.created) == (38, False)


async def test_a_fork_cannot_take_its_place(forge: FakeForge) -> None:
    """A pull request from a branch of the same name in a fork is another one."""
    forge.add_pull("hive-3-abc", "main", owner="mallory")
    outcome = await open_pull_request(wanted(forge), TOKEN)
    assert (outcome.number, outcome.created) == (8, True)


async def test_a_merge_is_told(forge: FakeForge) -> None:
    """Only a merged pull request has a commit of its merge, also when its branch is gone; another one is none."""
    opened = await open_pull_request(wanted(forge), TOKEN)
    asked = replace(wanted(forge), number=opened.number, commit="a" * 40)
    assert await open_pull_request(asked, TOKEN) == Outcome(kind=forge.kind, number=7)
    forge.merge(7, "b" * 40, head="a" * 40)
    assert await open_pull_request(asked, TOKEN) == Outcome(kind=forge.kind, number=7, merged="b" * 40)
    for other in (replace(asked, base="release"), replace(asked, number=8), replace(asked, head="x", commit="c" * 40)):
        assert (await open_pull_request(other, TOKEN)).problem == "missing"
    forge.pulls[0]["merge_commit_sha"] = "--output=x"
    assert (await open_pull_request(asked, TOKEN)).merged == ""
    assert len(forge.pulls) == 1


@pytest.mark.parametrize(
    ("fault", "problem"),
    [(302, "redirects"), (307, "redirects"), (401, "refused"), (403, "refused"), (429, "limited"), (500, "failed")],
)
async def test_failures_are_told(forge: FakeForge, fault: int, problem: str) -> None:
    """A redirect is not followed, and every other refusal has its word, with what the server says."""
    await open_pull_request(wanted(forge, "other"), TOKEN)
    asked = len(forge.requests)
    forge.faults = [*[0] * (asked - 1), fault]
    outcome = await open_pull_request(wanted(forge), TOKEN)
    assert (outcome.problem, outcome.status) == (problem, fault)
    assert outcome.said == ("" if problem == "redirects" else "a fault")
    assert len(forge.pulls) == 1


async def test_another_token_is_refused(forge: FakeForge) -> None:
    """A token that the server does not take is a refusal and opens nothing."""
    outcome = await open_pull_request(wanted(forge), "another")
    assert (outcome.problem, outcome.status, outcome.said) == ("refused", 401, "Bad credentials")
    assert forge.pulls == []


async def test_a_server_without_the_interface(forge: FakeForge) -> None:
    """A server with neither interface is told from one that does not answer, and gets no token."""
    forge.faults = [404, 404]
    assert await open_pull_request(wanted(forge), TOKEN) == Outcome("no_interface")
    assert all(not authorization for _, _, authorization in forge.requests)
    gone = replace(wanted(forge), server="localhost:1")
    assert (await open_pull_request(gone, TOKEN)).problem == "unreachable"


async def test_an_unknown_certificate_is_refused(forge: FakeForge, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent to a server whose certificate nobody vouches for."""
    monkeypatch.delenv("GIT_SSL_CAINFO")
    assert (await open_pull_request(wanted(forge), TOKEN)).problem == "unreachable"
    assert forge.requests == []
