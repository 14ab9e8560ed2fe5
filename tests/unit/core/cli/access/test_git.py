"""Git of this host that fetches from an agent which says what it wants."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from hive_core.cli.access import git, session
from hive_core.cli.client import Client
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import FrameReader


def serve(agent: socket.socket, command: list[str]) -> None:
    """Serve a session with a command, as the agent's side does."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None

    def take(stdin: int) -> None:
        reader = FrameReader(frames.FROM_CALLER)
        while arrived := agent.recv(65_536):
            for frame in reader.feed(arrived):
                if frame.kind == frames.EOF:
                    return
                os.write(stdin, frame.content)

    taking = threading.Thread(target=take, args=(process.stdin.fileno(),), daemon=True)
    taking.start()
    while data := os.read(process.stdout.fileno(), 65_536):
        agent.sendall(frames.encode(frames.STDOUT, data))
    agent.sendall(frames.encode(frames.EXIT, frames.END.pack(process.wait(), 0)))
    taking.join()
    process.stdin.close()
    process.stdout.close()


def test_what_the_remote_says_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences in what git of an agent reports to git of this host reach no terminal."""
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    for place in (theirs, mine):
        subprocess.run(["git", "init", "-qb", "main", place], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", theirs, *identity, "commit", "-qm", "x", "--allow-empty"], check=True)
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\nprintf 'hear \\033]0;this\\007\\n' >&2\nexec \"$@\"\n")
    hook.chmod(0o755)
    command = ["git", "-c", f"uploadpack.packObjectsHook={hook}", "upload-pack", str(theirs)]
    ours, agent = socket.socketpair()
    monkeypatch.setattr(session, "open_session", lambda *_: ours)
    with agent:
        serving = threading.Thread(target=serve, args=(agent, command), daemon=True)
        serving.start()
        assert git.fetch(Client(str(tmp_path / "host.sock")), "ada", "web", mine) == 0
        serving.join()
    said = capfd.readouterr().err
    assert "remote: hear \\x1b]0;this\\x07" in said
    assert "\x1b" not in said and "\x07" not in said
