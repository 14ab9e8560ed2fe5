"""The publication of landed work: a pushed branch, or a pull request, exactly once.

Each step looks first whether it is done: a ref of upstream that holds the commit is not pushed to, and a pull request
of the branch is not opened again. So a publication may be repeated after a failure or a crash at any moment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import structlog

from hive_core.errors import HiveError
from hive_core.gate.policy import name_from_label
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.infra.git.command import SAFE
from hive_core.runtimes.agent_environment import python_path
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.text import shown
from hive_core.work.outgoing.forge import link, number_of
from hive_core.work.outgoing.pull_request_program import Outcome, PullRequestOrder
from hive_core.work.outgoing.pull_request_text import body_of, title_of
from hive_core.work.repositories.push_rules import RepositoryAddress
from hive_core.work.repositories.registry import Repositories
from hive_core.work.repositories.store import RepositoryRecord
from hive_core.work.repositories.upstream.program import UpstreamProgram
from hive_core.work.repositories.upstream.source import parse_source

log = structlog.get_logger(__name__)

_SECONDS = 240.0
_PROGRAM = ("-P", "-m", "hive_core.work.outgoing.pull_request_program")
_FIRST_PAUSE = 15.0
_LONGEST_PAUSE = 3_600.0
_HEADS = "refs/heads/"
_PROBLEMS = {
    "unreachable": ("upstream_unreachable", "the server cannot be reached", "check the network and the proxy"),
    "redirects": ("upstream_redirects", "the server redirects", "register the address that it redirects to"),
    "refused": (
        "upstream_refused",
        "the server does not take the token for pull requests",
        "give one that may write pull requests: hive-c0re repo set NAME --token -",
    ),
    "missing": (
        "upstream_missing",
        "the server shows no such repository or branch with this token",
        "check the URL, the branch, and what the token may do",
    ),
    "limited": ("upstream_slow", "the server allows no more requests for now", "it is tried again later"),
    "no_interface": (
        "no_pull_requests",
        "the server has neither GitHub's nor Forgejo's interface for pull requests",
        "hive-c0re repo set NAME --push branch",
    ),
}


class LandedWork(Protocol):
    """Landed work as far as its publication needs it. Title and description are an agent's words."""

    @property
    def repo(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def by(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def branch(self) -> str: ...

    @property
    def landed(self) -> str | None: ...

    @property
    def link(self) -> str: ...


class WorkPublisher:
    """Publishes landed work as the operator wants it for the repository. Used on one event loop."""

    def __init__(self, repositories: Repositories, *, first_pause: float = _FIRST_PAUSE) -> None:
        self._repositories = repositories
        self._first_pause = first_pause
        self._problems: dict[tuple[str, int], HiveError] = {}
        self._reads: tuple[Path, ...] = ()
        self._again = asyncio.Event()

    async def __call__(self, record: object, row: LandedWork) -> str:
        """Publish landed work until it is done, and return its link; the record is looked up each time."""
        assert row.landed is not None
        return await self.publish_until_done(row, row.landed)

    def problem(self, repo: str, number: int) -> HiveError | None:
        """Return why the last attempt to publish this work has failed, None if there was no attempt or no failure."""
        return self._problems.get((repo, number))

    def try_again(self) -> None:
        """Try what has failed again now, as something has changed."""
        self._again.set()
        self._again = asyncio.Event()

    async def publish_until_done(self, work: LandedWork, commit: str) -> str:
        """Publish landed work, again and again with growing pauses until it is done; returns its link.

        The repository is looked up each time. Raises HiveError `unknown_repository`.
        """
        key, pause = (work.repo, work.number), self._first_pause
        while True:
            record = self._repositories.record(work.repo)
            again = self._again
            try:
                done = await self.publish(record, work, commit)
            except HiveError as error:
                if error.code == "unknown_repository":
                    raise
                before, self._problems[key] = self._problems.get(key), error
                if before is None or before.message != error.message:
                    name = f"{work.repo}/{work.number}"
                    log.warning("landed work is not published yet", work=name, code=error.code, error=error.message)
            else:
                self._problems.pop(key, None)
                return done
            try:
                async with asyncio.timeout(pause):
                    await again.wait()
                pause = self._first_pause
            except TimeoutError:
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def publish(self, record: RepositoryRecord, work: LandedWork, commit: str) -> str:
        """Publish the landed `commit` of `work` unless that is done; returns its link, "" if nothing is to be done.

        Raises HiveError: `no_pull_requests`, `publish_failed`, and those of a push.
        """
        if record.push == "none":
            return ""
        branch = work.branch or record.branch
        if record.push == "branch":
            await self._repositories.push(record.name, commit, f"{_HEADS}{branch}")
            return f"{record.source} {branch}"
        address = RepositoryAddress.of(parse_source(record.source))
        if record.credential != "token":
            hint = f"give one: hive-c0re repo set {record.name} --token -"
            raise HiveError("no_pull_requests", f"a pull request of {record.name} needs a token", hint=hint)
        head = _head(work, commit)
        await self._repositories.push(record.name, commit, f"{_HEADS}{head}", expected=None)
        outcome = await self._open(record, address, work, head, branch, commit)
        if outcome.problem:
            raise _failure(outcome)
        return link(address, outcome.kind, outcome.number)

    async def merge_of(self, work: LandedWork) -> str:
        """Return the commit with which upstream has merged the pull request of landed work, "" if it has not.

        Raises HiveError: `no_pull_requests`, `publish_failed`, and those of a transfer.
        """
        record = self._repositories.record(work.repo)
        address = RepositoryAddress.of(parse_source(record.source))
        number = number_of(address, work.link)
        if not number or work.landed is None:
            return ""
        request = PullRequestOrder(
            server=address.server,
            owner=address.owner,
            name=address.name,
            head=_head(work, work.landed),
            base=work.branch,
            number=number,
            commit=work.landed,
        )
        outcome = await self._run(record, request)
        if outcome.problem:
            raise _failure(outcome)
        return outcome.merged

    async def _open(
        self,
        record: RepositoryRecord,
        address: RepositoryAddress,
        work: LandedWork,
        head: str,
        base: str,
        commit: str,
    ) -> Outcome:
        name = f"{work.repo}/{work.number}"
        request = PullRequestOrder(
            server=address.server,
            owner=address.owner,
            name=address.name,
            head=head,
            base=base,
            title=title_of(name, work.title),
            body=body_of(name, name_from_label(work.by), commit, work.description),
        )
        return await self._run(record, request)

    async def _run(self, record: RepositoryRecord, request: PullRequestOrder) -> Outcome:
        if not self._reads:
            self._reads = (await REPOSITORIES.run(inspect_host)).read_only
        program = UpstreamProgram(
            argv=(sys.executable, *_PROGRAM),
            environment={"PATH": SAFE["PATH"], "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **python_path()},
            reads=self._reads,
            feed=json.dumps(asdict(request)).encode(),
            seconds=_SECONDS,
        )
        answer = await self._repositories.run_program(record.name, program)
        return Outcome(**json.loads(answer))


def _head(work: LandedWork, commit: str) -> str:
    """Return the branch of a pull request."""
    # The commit is in the name, so that no other hive has used the same name for something else.
    return f"hive-{work.number}-{commit[:12]}"


def _failure(outcome: Outcome) -> HiveError:
    status = f" (status {outcome.status})" if outcome.status else ""
    said = f": it says {shown(outcome.said)}" if outcome.said else ""
    if outcome.problem not in _PROBLEMS:
        why = f"the server has not opened the pull request{status}{said}"
        return HiveError("publish_failed", why, hint="it is tried again later", status=502)
    code, why, hint = _PROBLEMS[outcome.problem]
    return HiveError(code, f"{why}{status}{said}", hint=hint, status=502)
