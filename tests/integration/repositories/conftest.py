"""Fixtures: an upstream repository, servers for it, and the repositories of a daemon."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hive_core.infra.database.database import Database
from hive_core.layout import Layout, make_directories
from hive_core.protocol.work.settings import RepositorySettings
from hive_core.settings import Settings
from hive_core.work.repositories.opening import open_repositories
from hive_core.work.repositories.registry import Repositories
from tests.helpers.git_repos import git
from tests.integration.repositories.upstream_servers import HttpsUpstream, SshUpstream, https_upstream, ssh_upstream


@dataclass
class FakeCredentials:
    """Credentials in memory, instead of the encrypted store."""

    held: dict[str, bytes] = field(default_factory=dict)

    async def put(self, name: str, data: bytes) -> None:
        self.held[name] = data

    async def get(self, name: str) -> bytes | None:
        return self.held.get(name)

    async def delete(self, name: str) -> None:
        self.held.pop(name, None)


@dataclass(frozen=True)
class Upstream:
    """A bare repository of an upstream, and a clone in which commits are made."""

    bare: Path
    clone: Path

    @classmethod
    def make(cls, home: Path) -> Upstream:
        bare, clone = home / "up/web.git", home / "clone"
        bare.mkdir(parents=True)
        git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
        git(home, "clone", "--quiet", str(bare), str(clone))
        git(clone, "symbolic-ref", "HEAD", "refs/heads/main")
        upstream = cls(bare, clone)
        upstream.commit("first")
        return upstream

    def commit(self, text: str, path: str = "README.md", branch: str = "main") -> str:
        """Commit a file with this text, and push it; the commit's id."""
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        git(self.clone, "add", "-A")
        git(self.clone, "commit", "--quiet", "--allow-empty", "-m", text)
        self.push(f"HEAD:refs/heads/{branch}")
        return git(self.clone, "rev-parse", "HEAD")

    def push(self, *refspecs: str) -> None:
        git(self.clone, "push", "--quiet", "--force", "origin", *refspecs)


@pytest.fixture(scope="session")
def _first_upstream() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hive-up-") as home:
        Upstream.make(Path(home))
        yield Path(home)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="hr-") as directory:
        yield Path(directory)


@pytest.fixture
def upstream(home: Path, _first_upstream: Path) -> Upstream:
    """An upstream with one commit."""
    shutil.copytree(_first_upstream / "up", home / "up")
    shutil.copytree(_first_upstream / "clone", home / "clone")
    git(home / "clone", "remote", "set-url", "origin", str(home / "up/web.git"))
    return Upstream(home / "up/web.git", home / "clone")


@pytest.fixture
def ssh(home: Path) -> Iterator[SshUpstream]:
    """A running sshd."""
    with ssh_upstream(home / "sshd") as server:
        yield server


@pytest.fixture
def https(home: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsUpstream]:
    """A running nginx that serves the upstream, whose certificate the hive trusts."""
    git(upstream.bare, "config", "http.receivepack", "true")
    with https_upstream(home / "nginx", upstream.bare.parent) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.authority))
        yield server


@dataclass(frozen=True)
class Hive:
    """The repositories of a daemon, and its credentials and database."""

    layout: Layout
    database: Database
    repositories: Repositories
    credentials: FakeCredentials


OpenHive = Callable[..., Awaitable[Hive]]


@pytest.fixture(params=["bubblewrap"])
def bwrap() -> str | None:
    """The program that confines git."""
    found = shutil.which("bwrap")
    assert found, "bubblewrap is needed for these tests"
    return found


@pytest.fixture
async def open_hive(home: Path) -> AsyncIterator[OpenHive]:
    """Open the repositories of one state directory; keywords are settings of the traffic, and `bwrap`."""
    async with AsyncExitStack() as stack:

        async def start(bwrap: str | None = shutil.which("bwrap"), **settings: object) -> Hive:
            made = Settings(state_dir=home / "hive", repositories=RepositorySettings.model_validate(settings))
            layout = made.layout
            make_directories(layout)
            database = await Database.open(layout.database)
            credentials = FakeCredentials()
            repositories = await open_repositories(made, layout, database, credentials, bwrap, lambda _: ())

            import asyncio  # noqa: PLC0415

            writing = asyncio.create_task(database.run())

            async def close() -> None:
                await repositories.close()
                database.finish()
                await writing
                await database.close()

            stack.push_async_callback(close)
            return Hive(layout, database, repositories, credentials)

        yield start


@pytest.fixture
async def hive(open_hive: OpenHive) -> Hive:
    """The repositories of a new hive with the usual settings."""
    return await open_hive()
