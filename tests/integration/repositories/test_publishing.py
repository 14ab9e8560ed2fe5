"""Landed work leaves the hive: real pushes by git, and pull requests at stand-ins of the two REST interfaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import AddRepositoryRequest, SetRepositoryRequest
from hive_core.work.outgoing.publish import WorkPublisher
from hive_core.work.repository_proposals import PullRequest, RepositoryProposals
from tests.helpers.fake_forges import TOKEN, FakeForge, fake_forge
from tests.helpers.git_repos import git
from tests.integration.repositories.conftest import Hive, OpenHive, Upstream


@dataclass(frozen=True)
class Landed:
    """Landed work with an agent's words."""

    repo: str = "web"
    number: int = 3
    landed: str | None = None
    by: str = "ada"
    title: str = "Mend the test"
    description: str = "It was @broken.\n```\nfixes #1"
    branch: str = "main"
    link: str = ""


@dataclass(frozen=True)
class Scene:
    """A hive with a repository whose upstream is a stand-in, and a landed commit in the mirror."""

    hive: Hive
    forge: FakeForge
    upstream: Upstream
    publisher: WorkPublisher
    commit: str

    def upstream_ref(self, name: str) -> str:
        return git(self.upstream.bare, "for-each-ref", "--format=%(objectname)", f"refs/heads/{name}")

    async def publish(self, work: Landed | None = None) -> str:
        repositories = self.hive.repositories
        return await self.publisher.publish(repositories.record("web"), work or Landed(), self.commit)

    async def set(self, **values: object) -> None:
        await self.hive.repositories.set("web", SetRepositoryRequest.model_validate(values), "operator")


@pytest.fixture
async def scene(
    request: pytest.FixtureRequest,
    open_hive: OpenHive,
    upstream: Upstream,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    git(upstream.bare, "config", "http.receivepack", "true")
    async with fake_forge(home / "forge", getattr(request, "param", "forgejo"), upstream.bare) as forge:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(forge.authority))
        hive = await open_hive()
        asked = AddRepositoryRequest(name="web", source=forge.url, token=TOKEN, push="pull-request")
        await hive.repositories.add(asked, "operator")
        await hive.repositories.fetch("web")
        mirror = hive.repositories.mirror("web")
        tree = git(mirror, "rev-parse", "refs/heads/main^{tree}")
        commit = git(mirror, "commit-tree", "-p", "refs/heads/main", "-m", "landed", tree)
        yield Scene(hive, forge, upstream, WorkPublisher(hive.repositories, first_pause=0.01), commit)


@pytest.mark.parametrize("scene", ["github", "forgejo"], indirect=True)
async def test_a_pull_request_of_a_pushed_branch(scene: Scene) -> None:
    """The commit is pushed to a branch of its own, and one pull request is opened, however often it is asked for.

    The token is in no argument and no variable of the program that has it.
    """
    seen: list[bytes] = []
    looking = asyncio.create_task(look_at_the_program(seen))
    link = await scene.publish()
    looking.cancel()
    assert seen
    assert not any(TOKEN.encode() in text for text in seen)
    head = f"hive-3-{scene.commit[:12]}"
    word = "pulls" if scene.forge.kind == "forgejo" else "pull"
    assert link == f"https://{scene.forge.server}/acme/web/{word}/7"
    assert scene.upstream_ref(head) == scene.commit
    assert await scene.publish() == link
    (pull,) = scene.forge.pulls
    assert (pull["head"]["ref"], pull["base"]["ref"], pull["title"]) == (head, "main", "web/3: Mend the test")
    assert pull["body"].splitlines()[-1] == "````"
    assert TOKEN not in pull["body"]
    other = Scene(scene.hive, scene.forge, scene.upstream, WorkPublisher(scene.hive.repositories), scene.commit)
    assert await other.publish() == link, "a daemon that has forgotten it does not open another"


async def look_at_the_program(seen: list[bytes]) -> None:
    """Collect the arguments and the variables of the program, again and again."""
    while True:
        for process in await asyncio.to_thread(lambda: list(Path("/proc").glob("[0-9]*"))):
            with suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if b"pull_request_program" in line:
                    seen.append(line + (process / "environ").read_bytes())
        await asyncio.sleep(0.01)


async def test_a_branch_or_nothing(scene: Scene) -> None:
    """`branch` pushes to upstream's branch, by fast-forward only, and `none` does nothing."""
    await scene.set(push="none")
    assert await scene.publish() == ""
    await scene.set(push="branch")
    first = scene.upstream_ref("main")
    assert first != scene.commit
    assert await scene.publish() == f"{scene.forge.url} main"
    assert scene.upstream_ref("main") == scene.commit
    assert await scene.publish() == f"{scene.forge.url} main"
    scene.upstream.push(f"{first}:refs/heads/main")
    moved = scene.upstream.commit("somebody else's", "other.txt")
    with pytest.raises(HiveError) as refused:
        await scene.publish()
    assert refused.value.code == "upstream_moved"
    assert scene.upstream_ref("main") == moved
    assert scene.forge.requests == []


@dataclass(frozen=True)
class LandedTip:
    """The work for a repository, of which one proposal has landed."""

    publisher: WorkPublisher
    work: Landed

    async def pull_request_of(self, repo: str, commit: str) -> PullRequest | None:
        if commit != self.work.landed:
            return None
        return PullRequest("web/3", self.work.link, await self.publisher.merge_of(self.work) if self.work.link else "")


async def test_a_squashed_pull_request_is_followed(scene: Scene) -> None:
    """When upstream has taken what has landed as one commit of its own, the branch follows, and nothing is lost."""
    repositories, mirror = scene.hive.repositories, scene.hive.repositories.mirror("web")
    git(mirror, "update-ref", "refs/heads/main", scene.commit)
    link = await scene.publish()
    work = LandedTip(scene.publisher, Landed(landed=scene.commit, link=link))
    repositories.proposals = cast(RepositoryProposals, work)
    other = scene.upstream.commit("somebody else's", "other.txt")
    waiting = await repositories.fetch("web")
    assert (waiting.state, waiting.commit) == ("diverged", scene.commit)
    assert f"when the pull request of web/3 is merged: {link}" in repositories.record("web").facts.advice
    squash = scene.upstream.commit("landed, as one commit")
    scene.forge.merge(7, squash, scene.commit)
    followed = await repositories.fetch("web")
    assert (followed.state, followed.commit, followed.merged) == ("current", squash, "web/3")
    assert repositories.record("web").facts.problem == ""
    kept = git(mirror, "for-each-ref", "--format=%(objectname)", "refs/landed/")
    assert kept == scene.commit and git(mirror, "rev-parse", "main~1") == other
    query = "SELECT detail FROM audit WHERE action = 'repository_fetch' ORDER BY id DESC LIMIT 1"
    (detail,) = await scene.hive.database.read(lambda db: db.execute(query).fetchone())
    assert (json.loads(detail)["merged"], json.loads(detail)["before"]) == ("web/3", scene.commit)


@pytest.mark.thorough
async def test_a_branch_of_another_kind_is_not_followed(scene: Scene) -> None:
    """Without an answer, the commit of the merge, or a pull request of what the branch is at, it stays where it is."""
    repositories, mirror = scene.hive.repositories, scene.hive.repositories.mirror("web")
    git(mirror, "update-ref", "refs/heads/main", scene.commit)
    work = LandedTip(scene.publisher, Landed(landed=scene.commit, link=await scene.publish()))
    repositories.proposals = cast(RepositoryProposals, work)
    squash = scene.upstream.commit("landed, as one commit")
    scene.forge.merge(7, squash)
    scene.forge.faults = [0, 500]
    assert (await repositories.fetch("web")).state == "diverged"
    scene.forge.faults = []
    # Upstream says that it has merged it with a commit that its branch has not got yet.
    scene.forge.merge(7, "d" * 40)
    assert (await repositories.fetch("web")).commit == scene.commit
    scene.forge.merge(7, squash)
    later = git(mirror, "commit-tree", "-p", scene.commit, "-m", "later", f"{scene.commit}^{{tree}}")
    git(mirror, "update-ref", "refs/heads/main", later)
    result = await repositories.fetch("web")
    assert (result.state, result.commit) == ("diverged", later)


async def test_failures_are_repeated_until_it_is_done(scene: Scene) -> None:
    """Faults of the server delay the publication, are told meanwhile, and lead to one pull request in the end."""
    scene.forge.faults = [500, 500, "drop", 429]
    done = asyncio.create_task(scene.publisher(None, Landed(landed=scene.commit)))
    assert (await done).endswith("/7")
    assert len(scene.forge.pulls) == 1
    assert scene.publisher.problem("web", 3) is None


async def test_a_cause_that_people_mend(scene: Scene) -> None:
    """If the token is gone, the reason is kept, and after a new one the work is published at once."""
    slow = WorkPublisher(scene.hive.repositories, first_pause=1_000)
    # As after a restore of a backup on a machine that cannot decrypt the credentials.
    scene.hive.credentials.held.clear()
    task = asyncio.create_task(slow.publish_until_done(Landed(), scene.commit))
    async with asyncio.timeout(30):
        while (problem := slow.problem("web", 3)) is None:
            await asyncio.sleep(0.01)
    assert problem.code == "bad_credential"
    assert "hive-c0re repo set NAME --token -" in problem.hint
    await scene.set(token=TOKEN)
    slow.try_again()
    async with asyncio.timeout(60):
        assert (await task).endswith("/7")


async def test_no_pull_request_without_a_token(scene: Scene) -> None:
    """Without a token nothing is pushed for a pull request, and the refusal says how to give one."""
    record = replace(scene.hive.repositories.record("web"), credential="none")
    with pytest.raises(HiveError) as refused:
        await scene.publisher.publish(record, Landed(), scene.commit)
    assert (refused.value.code, refused.value.hint) == (
        "no_pull_requests",
        "give one: hive-c0re repo set web --token -",
    )
    assert not scene.upstream_ref(f"hive-3-{scene.commit[:12]}")
