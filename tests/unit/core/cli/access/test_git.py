"""Git of this host that fetches from an agent which says and sends what it wants."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.cli.access import session
from hive_core.cli.access.git import diff
from hive_core.cli.access.git.fetch import fetch
from hive_core.cli.access.git.limits import FetchLimits
from hive_core.cli.access.git.target import Target
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import FrameReader
from hive_core.protocol.access.opening import Opening

LIMITS = FetchLimits(seconds=30)
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")


def git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *arguments], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def serve(agent: socket.socket, command: list[str]) -> None:
    """Serve a session with a command, as the agent's side does."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None

    def take(stdin: int) -> None:
        reader = FrameReader(frames.FROM_CALLER)
        with suppress(OSError):
            while arrived := agent.recv(65_536):
                for frame in reader.feed(arrived):
                    if frame.kind == frames.EOF:
                        return
                    os.write(stdin, frame.content)
            process.kill()  # As the session has ended.

    taking = threading.Thread(target=take, args=(process.stdin.fileno(),), daemon=True)
    taking.start()
    with suppress(OSError):
        while data := os.read(process.stdout.fileno(), 65_536):
            agent.sendall(frames.encode(frames.STDOUT, data))
    process.stdout.close()
    with suppress(OSError):
        agent.sendall(frames.encode(frames.EXIT, frames.END.pack(max(process.wait(), 0), 0)))
    taking.join()
    with suppress(OSError):
        process.stdin.close()


class Scene:
    """A repository of an agent, one of a person, and the session between them."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.theirs, self.mine = home / "theirs", home / "mine"
        self.command: Callable[[Opening], list[str]] = self._obey
        for place in (self.theirs, self.mine):
            git(home, "init", "-qb", "main", str(place))
        git(self.theirs, "commit", "-qm", "x", "--allow-empty")
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        monkeypatch.setattr(session, "open_session", lambda _, __, opening: self._open(opening))

    def _obey(self, opening: Opening) -> list[str]:
        """Run what the CLI asks for, in the directory of the repository instead of /code."""
        return [*opening.argv[:-1], str(self.theirs)]

    def _open(self, opening: Opening) -> socket.socket:
        ours, agent = socket.socketpair()
        self._sockets.append(agent)
        self._threads.append(threading.Thread(target=serve, args=(agent, self.command(opening)), daemon=True))
        self._threads[-1].start()
        return ours

    def close(self) -> None:
        for agent, thread in zip(self._sockets, self._threads, strict=True):
            with suppress(OSError):
                agent.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            agent.close()

    def script(self, script: str) -> None:
        """Let the agent answer with a shell script in its repository."""
        self.command = lambda _: ["sh", "-c", f"cd {self.theirs}; {script}"]

    def commit(self, name: str, content: bytes) -> str:
        (self.theirs / name).write_bytes(content)
        git(self.theirs, "add", "--all")
        git(self.theirs, "commit", "-qm", name)
        return git(self.theirs, "rev-parse", "HEAD")

    def fetch(self, limits: FetchLimits = LIMITS) -> int:
        return fetch(Client("/nowhere/host.sock"), "ada", "web", self.mine, limits)

    def refused(self, limits: FetchLimits = LIMITS) -> str:
        """Fetch, which must be refused and leave nothing behind; the reason."""
        before = sorted(self.mine.rglob("*"))
        with pytest.raises(Failure) as failed:
            self.fetch(limits)
        assert sorted(self.mine.rglob("*")) == before
        assert failed.value.message.startswith("nothing was fetched: ada ")
        return failed.value.message

    def refs(self) -> dict[str, str]:
        lines = git(self.mine, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)


@contextmanager
def _scene(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(home, monkeypatch)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with _scene(tmp_path, monkeypatch) as made:
        yield made


def test_what_the_remote_says_is_escaped(scene: Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in what git of an agent reports to git of this host reach no terminal."""
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\nprintf 'hear \\033]0;this\\007\\n' >&2\nexec \"$@\"\n")
    hook.chmod(0o755)
    upload = f"git -c uploadpack.packObjectsHook={hook} upload-pack ."
    scene.script(f"echo refs/heads/main; echo; {upload}")
    assert scene.fetch() == 0
    said = capfd.readouterr().err
    assert "remote: hear \\x1b]0;this\\x07" in said
    assert "\x1b" not in said and "\x07" not in said


def test_branches_are_fetched_again_and_again(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """New, moved and removed branches become those below refs/hive/ada; only new objects come, and nothing is left."""
    first = scene.commit("one", b"1" * 100_000)
    git(scene.theirs, "branch", "other/topic")
    git(scene.theirs, "tag", "v1")
    assert scene.fetch() == 0
    assert scene.refs() == {"refs/hive/ada/main": first, "refs/hive/ada/other/topic": first}
    assert "From ada" in capfd.readouterr().err
    git(scene.theirs, "branch", "-qD", "other/topic")
    git(scene.theirs, "switch", "-qc", "other")
    second = scene.commit("two", b"2")
    # Less than what was there already.
    assert scene.fetch(replace(LIMITS, bytes=50_000)) == 0
    assert scene.refs() == {"refs/hive/ada/main": first, "refs/hive/ada/other": second}
    git(scene.mine, "fsck", "--strict")
    assert not list(scene.mine.rglob("tmp_*"))
    git(scene.theirs, "checkout", "-q", "--detach")
    git(scene.theirs, "branch", "-qD", "main", "other")
    assert scene.fetch() == 0 and scene.refs() == {}


def test_branches_are_named_as_they_are_here(scene: Scene) -> None:
    """The branches of an agent are named with their whole refs, as a git command here takes them, the newest first."""
    scene.commit("one", b"1")
    git(scene.theirs, "switch", "-qc", "ada/work")
    git(
        scene.theirs,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "two",
        "--date=2099-01-01T00:00:00Z",
    )
    assert scene.fetch() == 0
    assert sorted(Target(scene.mine).branches("ada")) == ["refs/hive/ada/ada/work", "refs/hive/ada/main"]


def test_a_shallow_repository_is_fetched_into(scene: Scene, tmp_path: Path) -> None:
    """A clone that has only the newest commit takes an agent's branches as others do."""
    scene.commit("one", b"1")
    first = scene.commit("two", b"2")
    scene.mine = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{scene.theirs}", str(scene.mine))
    git(scene.theirs, "switch", "-qc", "work")
    second = scene.commit("three", b"3")
    assert scene.fetch() == 0
    assert scene.refs()["refs/hive/ada/work"] == second
    assert git(scene.mine, "rev-parse", "refs/hive/ada/work~1") == first


def test_an_agent_that_sends_too_much_is_refused(scene: Scene) -> None:
    """Beyond the limit of bytes or objects nothing is kept, whatever has come until then."""
    scene.commit("random", os.urandom(3_000_000))
    assert scene.refused(replace(LIMITS, bytes=1_000_000)).endswith("ada sends more than 976.6 KiB")
    assert scene.refused(replace(LIMITS, objects=4)).endswith("ada sends 5 objects, and 4 are taken")
    before = sorted(scene.mine.rglob("*"))
    # Git itself does not take this, and has said so.
    scene.script("echo refs/heads/main; echo; exec cat /dev/zero")
    assert scene.fetch() != 0
    assert sorted(scene.mine.rglob("*")) == before


def test_an_agent_that_never_ends_is_refused(scene: Scene) -> None:
    """An agent that says nothing, before its branches or in their midst, is given up after the time."""
    for script in ("exec sleep 60", "echo refs/heads/main; echo; exec sleep 60"):
        scene.script(script)
        assert scene.refused(replace(LIMITS, seconds=0.3)).endswith("has not sent everything within 0.3 s")
    scene.script("echo; exec sleep 60")
    assert scene.fetch() == 0


def test_many_branches_are_fetched(scene: Scene) -> None:
    """As many branches as are taken come at once, though git of the agent lists them once more by itself."""
    head = git(scene.theirs, "rev-parse", "HEAD")
    feed = "".join(f"create refs/heads/b{number:03} {head}\n" for number in range(700))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=scene.theirs, input=feed, text=True, check=True)
    assert scene.fetch() == 0
    assert len(scene.refs()) == 701


def test_branches_without_end_are_refused(scene: Scene) -> None:
    """An agent with more branches than are taken is refused, and one that names a pattern instead of a branch."""
    git(scene.theirs, "branch", "second")
    assert scene.refused(replace(LIMITS, branches=1)).endswith("ada has more than 1 branches")
    scene.script("exec yes refs/heads/x")
    assert scene.refused().endswith("ada has more than 1,000 branches")
    scene.script("exec cat /dev/zero")
    assert scene.refused().endswith("ada has more than 1,000 branches")
    for name in ("refs/heads/*", "refs/heads/a:refs/heads/b", "refs/tags/v1", "^refs/heads/main"):
        scene.script(f"echo '{name}'; echo; exec git upload-pack .")
        with pytest.raises(Failure, match="names branches that git does not know"):
            scene.fetch()
    assert scene.refs() == {}


def test_a_difference_without_end_is_cut_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference that is longer than anybody reads fails instead of filling the memory."""
    monkeypatch.setattr(diff, "_MOST_SHOWN", 1_000_000)
    scene.script("exec yes +x")
    with pytest.raises(Failure) as failed:
        list(diff.diff_lines(Client("/nowhere/host.sock"), "ada", "web", "HEAD"))
    assert failed.value.code == "too_much"
