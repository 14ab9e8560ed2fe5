"""The commands of repositories against a real daemon, with a repository on this host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon


async def repo(daemon: Daemon, *arguments: str, feed: bytes = b"") -> tuple[int, str, str]:
    """Run `hive-c0re repo`; its code and what it printed."""
    return await hive_core(daemon, "repo", *arguments, feed=feed)


async def hive_core(daemon: Daemon, *arguments: str, feed: bytes = b"") -> tuple[int, str, str]:
    """Run `hive-c0re`; its code and what it printed."""
    command = (sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(feed)
    return process.returncode or 0, out.decode(), err.decode()


def commit(source: Path, text: str) -> str:
    (source / "a").write_text(text)
    git(source, "add", "-A")
    git(source, "commit", "--quiet", "-m", text)
    return git(source, "rev-parse", "HEAD")


async def test_a_repository_on_this_host(daemon: Daemon, tmp_path: Path) -> None:
    """The command line sends a repository, and what is new in it; neither hooks nor a file monitor of it run."""
    ran = tmp_path / "ran"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "source")
    source = tmp_path / "source"
    git(source, "config", "core.fsmonitor", f"touch {ran}; false")
    first = commit(source, "one")
    ran.unlink(missing_ok=True)
    code, out, err = await repo(daemon, "add", "notes", str(source), "--check", "test: make test", "--json")
    assert (code, json.loads(out)["repository"]["commit"]) == (0, first), err
    second = commit(source, "two")
    ran.unlink(missing_ok=True)
    code, out, err = await repo(daemon, "fetch", "notes")
    assert (code, second[:10] in out, ran.exists()) == (0, True, False), err
    git(source, "commit", "--quiet", "--amend", "-m", "rewritten")
    code, _, err = await repo(daemon, "fetch", "notes")
    assert code == 0 and "diverged" in err and "--take-upstream" in err
    code, out, _ = await repo(daemon, "fetch", "notes", "--take-upstream", "--json")
    assert json.loads(out)["repository"]["state"] == "current"
    code, out, _ = await repo(daemon, "show", "notes", "--json")
    assert json.loads(out)["checks"] == [{"name": "test", "argv": ["make", "test"], "timeout_seconds": 600}]
    code, out, err = await repo(
        daemon, "set", "notes", "--check-host", "Files.Example.ORG.", "--check-host", "npm", "--json"
    )
    assert (code, json.loads(out)["check_hosts"]) == (0, ["files.example.org", "npm"]), err
    code, _, err = await repo(daemon, "set", "notes", "--check-host", "*.co.uk")
    assert code != 0 and "public suffix" in err, err
    code, out, _ = await repo(daemon, "show", "notes")
    assert "files.example.org, npm" in out
    code, out, _ = await repo(daemon, "set", "notes", "--no-check-hosts", "--json")
    assert (code, json.loads(out)["check_hosts"]) == (0, [])
    assert [action for (action,) in daemon.sql("SELECT action FROM audit WHERE subject = 'notes' ORDER BY id")] == [
        "repository_add",
        *["repository_fetch"] * 4,
        *["repository_set"] * 2,
    ]


async def test_commands_read_a_path_anew_before_they_use_it(daemon: Daemon, tmp_path: Path) -> None:
    """A commit in a repository on this host is known before a landing, or a warning says why not."""
    source = tmp_path / "source"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "source")
    commit(source, "one")
    assert (await repo(daemon, "add", "notes", str(source)))[0] == 0
    second = commit(source, "two")
    code, _, err = await hive_core(daemon, "work", "approve", "notes/1")
    assert code == 1 and "there is no work notes/1" in err and f"notes: main of {source} was fetched" in err
    assert json.loads((await repo(daemon, "show", "notes", "--json"))[1])["commit"] == second
    source.rename(tmp_path / "moved")
    code, _, err = await hive_core(daemon, "work", "approve", "notes/1")
    assert code == 1 and "warning: notes is used as it was fetched before:" in err


async def test_what_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """Errors name what is wrong, and nothing is registered then."""
    for arguments, said in (
        (("add", "web", str(tmp_path)), "is no repository"),
        (("add", "web", "https://localhost/x.git", "--token", "secret"), "--token -"),
        (("add", "web", "file:///etc"), "no URL that the hive fetches from"),
        (("add", "web", "https://a:b@localhost/x.git"), "holds a password"),
        (("add", "Web", "https://localhost/x.git"), "may hold only"),
        (("fetch", "web"), "there is no repository"),
    ):
        code, _, err = await repo(daemon, *arguments)
        assert code != 0 and said in err, (arguments, err)
    assert json.loads((await repo(daemon, "list", "--json"))[1])["repositories"] == []


async def test_a_stream_that_is_garbage_changes_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """A pack that is none is refused, and the daemon goes on."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "source")
    first = commit(tmp_path / "source", "one")
    assert (await repo(daemon, "add", "notes", str(tmp_path / "source")))[0] == 0
    text = f"{'1' * 40}\trefs/heads/main\n".encode()
    body = f"{len(text)}\n".encode() + text + b"pack\n" + b"\0" * 3_000_000
    head = (
        "POST /v1/repositories/notes/send HTTP/1.1\r\nHost: hive\r\nContent-Type: application/x-hive-stream\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )

    def send() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(daemon.host_socket))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(head.encode() + body)
            return connection.recv(4_096)

    answer = await asyncio.to_thread(send)
    assert b"bad_upstream" in answer
    assert json.loads((await repo(daemon, "show", "notes", "--json"))[1])["commit"] == first
