"""A program that opens one pull request, or finds the one that is open, or asks whether it is merged: `python -m
hive_core.work.outgoing.pull_request_program`.

It runs in the confinement of transfers, as the token is in its hands: the daemon never sends it. It reads a
`PullRequestOrder` as JSON from its standard input and the token from the file that HIVE_SECRET names, and writes an
`Outcome` as JSON.

Only the server of the registered URL is asked, over https; a redirect is a failure. The token goes only to an address
that is known to have the interface.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

from hive_core.work.outgoing.forge import Forge, ForgeKind, candidates, known_forge
from hive_core.work.repositories.push_rules import RepositoryAddress

_SECONDS = 60.0
_MOST_BYTES = 4 * 1024 * 1024
_MOST_PAGES = 10
_SAID = 200
_COMMIT = re.compile(r"[0-9a-f]{40}")
Problem = Literal["", "unreachable", "redirects", "refused", "missing", "limited", "no_interface", "failed"]


@dataclass(frozen=True)
class PullRequestOrder:
    """The pull request that there should be: from the branch `head` to the branch `base` of one repository.

    With a `number`, that one is asked for instead, which was opened for the `commit`.
    """

    server: str
    owner: str
    name: str
    head: str
    base: str
    title: str = ""
    body: str = ""
    number: int = 0
    commit: str = ""


@dataclass(frozen=True)
class Outcome:
    """The number of the pull request, or the problem; `said` is a line of the server's about it.

    `merged` is the commit with which the base has got a pull request that was asked for, "" if it has not.
    """

    problem: Problem = ""
    kind: ForgeKind = "github"
    number: int = 0
    created: bool = False
    status: int = 0
    said: str = ""
    merged: str = ""


class _Refusal(Exception):
    """The server does not do what is asked."""

    def __init__(self, problem: Problem, status: int = 0, said: str = "") -> None:
        super().__init__(problem)
        self.outcome = Outcome(problem, status=status, said=said[:_SAID])


async def open_pull_request(request: PullRequestOrder, token: str) -> Outcome:
    """Find the pull request of the branch, or open it; or tell of the one that the request names."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    # The variables of proxies are the host's own.
    async with aiohttp.ClientSession(
        timeout=timeout, trust_env=True, connector=aiohttp.TCPConnector(ssl=_context())
    ) as session:
        try:
            forge = known_forge(request.server) or await _find_forge(session, request.server)
            return await _Work(session, forge, request, token).run()
        except _Refusal as refusal:
            return refusal.outcome
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Outcome("unreachable", said=f"{type(error).__name__}: {error}"[:_SAID])


async def _find_forge(session: aiohttp.ClientSession, server: str) -> Forge:
    """Ask a server, without the token, which interface it has."""
    for forge, url, key in candidates(server):
        status, answer = await _ask(session, "GET", url, {"User-Agent": "hyperhive", "Accept": "application/json"})
        if status == 200 and isinstance(answer, dict) and isinstance(answer.get(key), str):
            return forge
        if status >= 500 or status == 429:
            raise _Refusal("failed", status)
    raise _Refusal("no_interface")


class _Work:
    """The requests for one pull request."""

    def __init__(self, session: aiohttp.ClientSession, forge: Forge, request: PullRequestOrder, token: str) -> None:
        self._session = session
        self._forge = forge
        self._request = request
        self._address = RepositoryAddress(request.server, request.owner, request.name)
        self._headers = forge.headers(token)

    async def run(self) -> Outcome:
        if self._request.number:
            return Outcome(kind=self._forge.kind, number=self._request.number, merged=await self._merge())
        if number := await self._find():
            return Outcome(kind=self._forge.kind, number=number)
        wanted = self._request
        content = {"title": wanted.title, "body": wanted.body, "head": wanted.head, "base": wanted.base}
        status, answer = await self._ask("POST", self._forge.pulls(self._address), content)
        if status == 201 and (number := _number(answer)):
            return Outcome(kind=self._forge.kind, number=number, created=True)
        # Both say so if there is one already, which older versions do not find by its branch.
        if status in (409, 422) and (number := await self._find_in_list()):
            return Outcome(kind=self._forge.kind, number=number)
        raise _refusal(status, answer)

    async def _merge(self) -> str:
        """Return the commit with which the pull request was merged into the wanted base, "" if it was not."""
        wanted = self._request
        status, answer = await self._ask("GET", self._forge.pull(self._address, wanted.number))
        if status != 200:
            raise _refusal(status, answer)
        own = f"{wanted.owner}/{wanted.name}".lower()
        found = answer if isinstance(answer, dict) else {}
        head = found.get("head")
        # Forgejo names another branch when that of a merged pull request was removed.
        same = isinstance(head, dict) and (head.get("ref") == wanted.head or head.get("sha") == wanted.commit)
        if _number(found) != wanted.number or not same or _branch(found, "base") != (wanted.base, own):
            raise _Refusal("missing", status, "it has another pull request of that number")
        merge = found.get("merge_commit_sha")
        fits = found.get("merged") is True and isinstance(merge, str) and _COMMIT.fullmatch(merge) is not None
        return str(merge) if fits else ""

    async def _find(self) -> int:
        """Return the number of the pull request of the branch; 0 if there is none."""
        wanted = self._request
        status, answer = await self._ask("GET", self._forge.search(self._address, wanted.head, wanted.base))
        if status == 404 and self._forge.kind == "forgejo":
            return 0  # A repository that does not exist is noticed when the pull request is opened.
        if status != 200:
            raise _refusal(status, answer)
        return self._match(answer if isinstance(answer, list) else [answer])

    async def _find_in_list(self) -> int:
        for page in range(1, _MOST_PAGES + 1):
            status, answer = await self._ask("GET", self._forge.page(self._address, page))
            if status != 200 or not isinstance(answer, list) or not answer:
                return 0
            if number := self._match(answer):
                return number
        return 0

    def _match(self, found: list[Any]) -> int:
        """Return the number of the one from the wanted branch to the wanted base, both of this very repository."""
        own = f"{self._request.owner}/{self._request.name}".lower()
        wanted = [(self._request.head, own), (self._request.base, own)]
        # Anybody may open one from a branch of the same name in a fork.
        return next((_number(one) for one in found if [_branch(one, "head"), _branch(one, "base")] == wanted), 0)

    async def _ask(self, method: str, url: str, content: dict[str, str] | None = None) -> tuple[int, Any]:
        return await _ask(self._session, method, url, self._headers, content)


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: dict[str, str],
    content: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Send a request; returns the status and the answer as JSON, None if it is none. Raises _Refusal for a redirect."""
    async with session.request(method, url, headers=headers, json=content, allow_redirects=False) as response:
        if 300 <= response.status < 400:
            raise _Refusal("redirects", response.status)
        data = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            data += chunk
            if len(data) > _MOST_BYTES:
                raise _Refusal("failed", response.status, "the answer is too long")
        try:
            return response.status, json.loads(data)
        except (ValueError, RecursionError):
            return response.status, None


def _number(answer: Any) -> int:
    found = answer.get("number") if isinstance(answer, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 2**53 else 0


def _branch(answer: Any, side: str) -> tuple[object, str]:
    """Return one branch of a pull request, and the name of its repository in small letters."""
    found = answer.get(side) if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        return "", ""
    repository = found.get("repo")
    name = repository.get("full_name") if isinstance(repository, dict) else None
    return found.get("ref"), name.lower() if isinstance(name, str) else ""


def _refusal(status: int, answer: Any) -> _Refusal:
    message = answer.get("message") if isinstance(answer, dict) else None
    said = message if isinstance(message, str) else ""
    if status == 429 or (status == 403 and "rate limit" in said.lower()):
        return _Refusal("limited", status, said)
    problems: dict[int, Problem] = {401: "refused", 403: "refused", 404: "missing"}
    return _Refusal(problems.get(status, "failed"), status, said)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Git's variable for its transfers holds for this, too.
    if own := os.environ.get("GIT_SSL_CAINFO"):
        context.load_verify_locations(own)
    return context


def main() -> int:
    """Open the pull request that the standard input asks for, or tell of it."""
    request = PullRequestOrder(**json.load(sys.stdin))
    token = Path(os.environ["HIVE_SECRET"]).read_text().strip()
    json.dump(asdict(asyncio.run(open_pull_request(request, token))), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
