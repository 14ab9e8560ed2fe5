"""Applied repositories for the tests of this directory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_core.infra.git.objects import Person
from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildOrder

NIX = b"{ pkgs, ... }:\n{\n  environment.systemPackages = [ pkgs.git ];\n}\n"
FILES: Mapping[str, bytes] = {"agent.nix": NIX, "agent.toml": b'backend = "scripted"\n', "prompt.md": b"You help.\n"}
ADA = Person("ada", "ada@hive")


def order(layout: Layout, files: Mapping[str, bytes], name: str = "ada", when: int = 1_700_000_000) -> BuildOrder:
    """An order to build a commit of `files`, which is in the agent's applied repository then."""
    path = layout.applied_repository(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Repository.init(path) as repository:
        commit = repository.write_commit(files, parents=[], author=ADA, when=when, message="A change\n")
    return BuildOrder(name, "agent", 1, path, commit)


_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{
        f"GIT_{who}_{what}": f"ada{sign}x"
        for who in ("AUTHOR", "COMMITTER")
        for what, sign in (("NAME", ""), ("EMAIL", "@"))
    },
}
AGENT_FILES = {"agent.nix": "{ }\n", "agent.toml": 'backend = "scripted"\n', "prompt.md": "You are ada.\n"}
HUGE = 2 * 1024**3
HUGE_SHAS = {"blob": "77e9132b46cb9535f286f18974872f40049d1a89", "commit": "15a70865d10717de388bcec291229bf55ba7c9dd"}
"""Ids of the objects of 2 GiB of zeros."""


def git(where: Path, *arguments: str, feed: bytes = b"") -> str:
    """Run git in a directory; what it printed."""
    done = subprocess.run(
        ["git", *arguments], cwd=where, env=_ENVIRONMENT, input=feed, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class AgentRepositories:
    """An agent's configuration directory with one commit, which is deployed; beside it what an agent must not reach."""

    home: Path

    @classmethod
    def make(cls, home: Path) -> AgentRepositories:
        repositories = cls(home)
        repositories.config.mkdir(parents=True)
        repositories.outside.mkdir()
        repositories.scratch.mkdir()
        git(repositories.config, "init", "-q", "--template=", "-b", "main")
        repositories.commit(AGENT_FILES)
        git(home, "clone", "-q", "--template=", "--bare", str(repositories.config), str(repositories.applied))
        # What git itself would leave there, but for the remote.
        git(repositories.applied, "remote", "remove", "origin")
        (repositories.applied / "refs" / "heads" / "main").write_text(
            git(repositories.config, "rev-parse", "HEAD") + "\n"
        )
        return repositories

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def applied(self) -> Path:
        return self.home / "ada.git"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    @property
    def outside(self) -> Path:
        return self.home / "outside"

    @property
    def marker(self) -> Path:
        """What commands of the agent's would make if they ran."""
        return self.outside / "ran"

    @property
    def base(self) -> str:
        return (self.applied / "refs" / "heads" / "main").read_text().strip()

    @property
    def objects(self) -> Path:
        return self.config / ".git" / "objects"

    def commit(self, files: dict[str, str]) -> str:
        """Write files, commit them with all else, and give the commit."""
        for name, text in files.items():
            (self.config / name).write_text(text)
        git(self.config, "add", "-A")
        git(self.config, "commit", "-q", "-m", "a change")
        return git(self.config, "rev-parse", "HEAD")

    def write(self, kind: str, data: bytes) -> str:
        """Write an object as it is, without any check; no process is needed for it."""
        whole = b"%s %d\0%s" % (kind.encode(), len(data), data)
        sha = hashlib.sha1(whole).hexdigest()
        path = self.loose(sha)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return sha

    def blob(self, data: bytes) -> str:
        return self.write("blob", data)

    def tree(self, entries: Sequence[tuple[str, str, str]]) -> str:
        """A tree of (mode, sha, name)."""
        lines = [(name.encode() + b"/" * (mode == "40000"), mode, sha, name) for mode, sha, name in entries]
        data = [f"{mode} {name}".encode() + b"\0" + bytes.fromhex(sha) for _, mode, sha, name in sorted(lines)]
        return self.write("tree", b"".join(data))

    def commit_tree(self, tree: str, *parents: str) -> str:
        """A commit on those commits, or on what is deployed."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents or [self.base])]
        who = "ada <ada@x> 1700000000 +0000"
        return self.write("commit", "\n".join([*lines, f"author {who}", f"committer {who}", "", "a change\n"]).encode())

    def change(self, files: Mapping[str, str]) -> str:
        """A commit of the usual files with these changes, made without git."""
        found = AGENT_FILES | dict(files)
        return self.commit_tree(self.tree([("100644", self.blob(text.encode()), name) for name, text in found.items()]))

    def commit_with(self, *entries: tuple[str, str, str]) -> str:
        """A commit of the usual files and these entries beside them at the top."""
        usual = [("100644", self.blob(text.encode()), name) for name, text in AGENT_FILES.items()]
        return self.commit_tree(self.tree([*usual, *entries]))

    def nested(self, names: Sequence[str]) -> tuple[str, str, str]:
        """An entry for directories in directories with a file at the end."""
        entry = ("100644", self.blob(b"deep\n"), names[-1])
        for name in reversed(names[:-1]):
            entry = ("40000", self.tree([entry]), name)
        return entry

    def loose(self, sha: str) -> Path:
        """Where a loose object lies."""
        return self.objects / sha[:2] / sha[2:]

    def replace(self, sha: str, data: bytes) -> None:
        """Put other bytes in the place of a loose object's file."""
        self.loose(sha).unlink()
        self.loose(sha).write_bytes(data)

    def write_huge(self, kind: str) -> str:
        """An object of 2 GiB of zeros, which is 2 MiB as a file. Made of pieces, so that it takes no time."""
        header = f"{kind} {HUGE}\0".encode()
        piece = 1024 * 1024
        first, again = (zlib.compressobj(9, zlib.DEFLATED, -15) for _ in range(2))
        head = first.compress(header) + first.flush(zlib.Z_FULL_FLUSH)
        zeros = again.compress(bytes(piece)) + again.flush(zlib.Z_FULL_FLUSH)
        # Adler-32 of n zeros more: its upper half grows by n times its lower half.
        sums = zlib.adler32(header)
        low, high = sums & 0xFFFF, sums >> 16
        check = ((high + low * HUGE) % 65521 << 16 | low).to_bytes(4, "big")
        path = self.loose(HUGE_SHAS[kind])
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x78\xda" + head + zeros * (HUGE // piece) + b"\x03\x00" + check)
        return HUGE_SHAS[kind]
