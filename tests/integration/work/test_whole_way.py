"""Work on a repository from its registration to its publication, with nothing faked but the model and a forge.

Git, the servers of the upstreams (sshd of OpenSSH, nginx with git-http-backend), the daemon, the sandboxes and the
agent CLIs are real. The REST interface for pull requests is a stand-in of Forgejo's.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_forges import TOKEN, FakeForge, fake_forge
from tests.helpers.fake_messages_api import ApiError, Blocks, Text, ToolUse
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.integration.backends.agent_clis import CLAUDE, CODEX, OPENCODE, AgentCli, each
from tests.integration.harness.in_sandbox import needs_bubblewrap
from tests.integration.repositories.upstream_servers import https_upstream, ssh_upstream

pytestmark = [needs_bubblewrap, pytest.mark.timeout(400)]

SECONDS = 240
WISH = "Please let answer.txt say what six times seven is."
INSTRUCTION = "Answers-in-this-repository-are-digits."
CHECK = """grep -qx 42 answer.txt || { echo "the answer is no 42 in digits"; exit 1; }\n"""


@dataclass(frozen=True)
class Upstream:
    """The origin of the code.

    `add` are the arguments of `repo add` behind the name, `feed` is its stdin, and `variables` are the daemon's.
    `bare` is the repository of the server.
    """

    bare: Path
    add: Sequence[str]
    feed: bytes = b""
    variables: tuple[tuple[str, str], ...] = ()
    forge: FakeForge | None = None


def commit_first(home: Path) -> Path:
    """Make a bare repository with a wrong answer, a check of it and instructions for agents."""
    clone, bare = home / "clone", home / "up/web.git"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    git(bare, "config", "http.receivepack", "true")
    git(home, "clone", "--quiet", str(bare), str(clone))
    git(clone, "symbolic-ref", "HEAD", "refs/heads/main")
    for name, text in {
        "answer.txt": "41\n",
        "check.sh": CHECK,
        "CLAUDE.md": f"{INSTRUCTION}\n",
        "AGENTS.md": f"{INSTRUCTION}\n",
    }.items():
        (clone / name).write_text(text)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "first")
    git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    return bare


@asynccontextmanager
async def https(home: Path) -> AsyncIterator[Upstream]:
    """Serve over https by nginx, beside the interface for pull requests."""
    bare = commit_first(home)
    async with fake_forge(home / "forge", "forgejo") as forge:
        with https_upstream(home / "nginx", bare.parent, token=TOKEN, interface=forge.port) as server:
            variables = (("GIT_SSL_CAINFO", str(server.authority)),)
            add = (server.url(bare, "acme"), "--token", "-", "--push", "pull-request")
            yield Upstream(bare, add, TOKEN.encode(), variables, forge)


@asynccontextmanager
async def ssh(home: Path) -> AsyncIterator[Upstream]:
    """Serve over ssh by sshd."""
    bare = commit_first(home)
    with ssh_upstream(home / "sshd") as server:
        shown = ["ssh-keygen", "-l", "-f", str(server.home / "host_key.pub")]
        said = await asyncio.to_thread(subprocess.run, shown, capture_output=True, text=True, check=True)
        keys = ("--ssh-key", str(server.home / "key"), "--host-key", said.stdout.split()[1])
        yield Upstream(bare, (server.url(bare), *keys, "--push", "branch"))


@asynccontextmanager
async def path(home: Path) -> AsyncIterator[Upstream]:
    """Have a repository on this host."""
    commit_first(home)
    yield Upstream(home / "up/web.git", (str(home / "clone"),))


def strings(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


class Coder:
    """A model that does the wish, first wrong and then right, and looks at the branch when its work has landed.

    Each step sees the texts that came since the one before, and what it misses in them is in `missed`. `done` is set
    after the last step, or when something is missed.
    """

    def __init__(self, cli: AgentCli) -> None:
        self._cli = cli
        self._seen: set[str] = set()
        self._steps: list[Callable[[str], Blocks]] = [
            self._begin,
            self._submit,
            lambda _: [Text("It is submitted.")],
            self._mend,
            self._submit,
            lambda _: [Text("It is submitted again.")],
            self._pull,
            self._look,
        ]
        self.done = asyncio.Event()
        self.missed: list[str] = []

    async def __call__(self, request: dict[str, Any]) -> Blocks | ApiError:
        texts = dict.fromkeys(strings(request))
        new = "\n".join(text for text in texts if text not in self._seen)
        self._seen |= set(texts)
        if not request.get("tools") or not self._steps:
            return [Text("Noted.")]
        try:
            answer = self._steps.pop(0)(new)
        except AssertionError as error:
            self.missed.append(str(error))
            self._steps.clear()
            self.done.set()
            return ApiError(400, "invalid_request_error", "the test has failed")
        if not self._steps:
            self.done.set()
        return answer

    def _shell(self, command: str) -> Blocks:
        return [self._cli.shell(command)]

    def _begin(self, new: str) -> Blocks:
        assert WISH in new, new
        assert INSTRUCTION in new, new
        assert "Checks that have to succeed on work for it: `sh check.sh`" in new, new
        return self._shell(
            "pwd; echo forty-two > answer.txt; git commit --quiet --all --message 'Say it'; git log -1 --format=made-%H"
        )

    def _submit(self, new: str) -> Blocks:
        found = re.findall(r"made-([0-9a-f]{40})", new)
        assert found, new
        name = self._cli.send.replace("send", "submit_work")
        return [ToolUse(name, {"repo": "web", "commit": found[-1], "title": "Say the answer", "description": "42"})]

    def _mend(self, new: str) -> Blocks:
        assert re.search(r"Work web/\d+ failed\.", new), new
        assert "the answer is no 42 in digits" in new, new
        return self._shell(
            "echo 42 > answer.txt; git commit --quiet --all --message 'Say it in digits'; git log -1 --format=made-%H"
        )

    def _pull(self, new: str) -> Blocks:
        assert re.search(r"Work web/\d+ has landed: the branch is at [0-9a-f]{40} now", new), new
        return self._shell("git pull && git rev-parse HEAD origin/main && git status --short --branch")

    def _look(self, new: str) -> Blocks:
        assert re.search(r"\b([0-9a-f]{40})\n\1\n## ada/work\.\.\.origin/main\s", new), new
        return [Text("It is there.")]


@asynccontextmanager
async def hive(home: Path, cli: AgentCli, url: str, upstream: Upstream) -> AsyncIterator[Caller]:
    """A daemon whose agents reach the model at `url`, and may see the program of their CLI in `/binds/clis`."""
    variables = {cli.address: url, cli.key: "test", "CLAUDE_CODE_MAX_RETRIES": "0"}
    settings: dict[str, object] = {"sandbox": "bubblewrap"}
    if cli.program is not None:
        place = next(parent for parent in cli.program.parents if parent.name == ".clis")
        settings["binds"] = json.dumps({"clis": {"path": str(place.resolve())}})
        variables[f"HIVE_{cli.name.upper()}"] = f"/binds/clis/{cli.program.relative_to(place)}"
    daemon = Daemon(
        home,
        settings=settings | {"pass_environment": ",".join(variables)},
        environment=variables | dict(upstream.variables),
    )
    async with running(daemon):
        yield Caller(daemon)


async def operate(caller: Caller, *arguments: str, feed: bytes = b"") -> str:
    """Run a command of the operator's that must succeed; returns what it prints."""
    process = await caller.start(*arguments)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate(feed)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def until(caller: Caller, coder: Coder, number: int, state: str) -> dict[str, Any]:
    """Wait until work is there and in a state; returns it."""
    while True:
        assert not coder.missed, coder.missed
        status, found = await caller.daemon.request("GET", f"/v1/work/web/{number}")
        if status == 200 and found["state"] == state:
            return found
        if status == 200:
            await caller.daemon.request("GET", f"/v1/work/web/{number}?unlike={found['state']}&wait_seconds=1")
        else:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("cli", "place"),
    [
        pytest.param(*first.values, place, id=f"{first.id}-{place.__name__}", marks=[*first.marks, *marks])
        for cli, place, marks in (
            (CLAUDE, https, []),
            (CODEX, ssh, [pytest.mark.thorough]),
            (OPENCODE, path, [pytest.mark.thorough]),
        )
        for first in each(cli)
    ],
)
async def test_from_a_wish_to_landed_work(
    hive_home: Path, tmp_path: Path, cli: AgentCli, place: Callable[[Path], Any]
) -> None:
    """An agent does a wish in a repository, mends what a check finds, and sees it landed; it reaches the upstream."""
    coder = Coder(cli)
    async with (
        place(hive_home / "u") as upstream,
        cli.serve(coder) as api,
        hive(hive_home, cli, api.url, upstream) as caller,
    ):
        first = git(upstream.bare, "rev-parse", "main")
        policy = ("--check", "answer: sh check.sh", "--review", "operator")
        await operate(caller, "repo", "add", "web", *upstream.add, *policy, feed=upstream.feed)
        configuration = tmp_path / "configuration"
        configuration.mkdir()
        binds = 'binds = ["clis"]\n' if cli.program is not None else ""
        # The model of the test listens on the host's loopback.
        (configuration / "agent.toml").write_text(f'network = "host"\n{binds}')
        how = ("--backend", cli.name, "--model", cli.model, "--config-dir", str(configuration))
        await operate(caller, "spawn", "ada", "--repo", "web", *how)
        asking = asyncio.create_task(operate(caller, "ask", "ada", WISH, "--timeout", str(SECONDS)))
        async with asyncio.timeout(SECONDS):
            await until(caller, coder, 1, "failed")
            await until(caller, coder, 2, "built")
            await operate(caller, "work", "approve", "web/2")
            await coder.done.wait()
            assert not coder.missed, coder.missed
            landed = await until(caller, coder, 2, "deployed")
            assert (await asking).startswith("It is submitted")
        assert "answer: passed" in landed["checks"]
        mirror = caller.daemon.state_dir / "repos/web.git"
        made = landed["landed"]
        assert git(mirror, "log", "-2", "--format=%H %an <%ae> %s", "main").splitlines() == [
            f"{made} ada <ada@hive> Say it in digits",
            f"{git(mirror, 'rev-parse', f'{made}^')} ada <ada@hive> Say it",
        ]
        assert git(mirror, "show", "main:answer.txt") == "42"
        await assert_published(caller, upstream, first, made)


async def assert_published(caller: Caller, upstream: Upstream, first: str, landed: str) -> None:
    """Wait until the landed commit is where the setting `push` says."""
    push = upstream.add[upstream.add.index("--push") + 1] if "--push" in upstream.add else "none"
    link = ""
    async with asyncio.timeout(SECONDS):
        while push != "none" and not link:
            link = (await caller.daemon.ask("GET", "/v1/work/web/2"))["link"] or ""
            await asyncio.sleep(0.05)
    if push == "none":
        assert git(upstream.bare, "rev-parse", "main") == first
    elif push == "branch":
        assert git(upstream.bare, "rev-parse", "main") == landed
    else:
        assert upstream.forge is not None
        (pull,) = upstream.forge.pulls
        assert git(upstream.bare, "rev-parse", pull["head"]["ref"], "main").split() == [landed, first]
        assert (pull["base"]["ref"], pull["title"]) == ("main", "web/2: Say the answer")
        assert link == f"{upstream.add[0].removesuffix('.git')}/pulls/{pull['number']}"
