"""Git in an agent: the difference of its working tree, and its branches in a repository of this host.

Everything that touches the agent's repository runs in the agent. This host reads text, and a pack that its own git
checks before anything refers to it.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import click

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.output import shown_lines
from hive_core.protocol.access import frames
from hive_core.protocol.access.opening import Opening
from hive_core.text import escaped_line

_CHUNK = 64 * 1024
_FIND = """\
code=${HIVE_AGENT_CODE:-/code}
case $1 in
  /*) repository=$1 ;;
  "") set -- "$code"/*/.git "$2"
      [ $# = 2 ] && [ -e "$1" ] || { echo "name one of the repositories in $code: $(ls "$code" 2>&1)" >&2; exit 3; }
      repository=${1%/.git}; shift; set -- "" "$1" ;;
  *) repository=$code/$1 ;;
esac
cd "$repository" || exit 3
"""
_DIFF = (
    _FIND
    + """\
against=${2:-HEAD}
# New files are shown too, without a change of the agent's own index.
index=$(mktemp) || exit 3
trap 'rm -f "$index"' EXIT
cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
GIT_INDEX_FILE=$index git add --all --intent-to-add . &&
GIT_INDEX_FILE=$index git diff --no-ext-diff --no-color "$against" --
"""
)
_UPLOAD = _FIND + 'exec git upload-pack "$(git rev-parse --absolute-git-dir)"\n'
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.fd.allow=always",
)
"""Settings that keep git of this host from running or fetching anything for a repository that an agent writes."""


def diff_lines(client: Client, agent: str, repository: str, against: str) -> Iterator[str]:
    """Yield the lines of the difference of an agent's working tree, escaped: they are the agent's. Raises Failure."""
    opening = Opening("run", argv=("sh", "-c", _DIFF, "diff", repository, against), directory="/")
    connection = session.open_session(client, agent, opening)
    with closing(connection):
        stream = FrameStream(connection, agent)
        yield from shown_lines(lambda: stream.read(_CHUNK))
        _check_end(stream, agent, "git diff")


def fetch(client: Client, agent: str, repository: str, target: Path) -> int:
    """Fetch the branches of an agent's repository into `target`, as refs/hive/<agent>/*.

    Returns git's exit code. Raises Failure.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    opening = Opening("run", argv=("sh", "-c", _UPLOAD, "fetch", repository), directory="/")
    connection = session.open_session(client, agent, opening)
    ours, theirs = socket.socketpair()
    with closing(connection), ours:
        stream = FrameStream(connection, agent)
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        refs = f"+refs/heads/*:refs/hive/{agent}/*"
        options = ["--no-tags", "--prune", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance"]
        try:
            with theirs:
                git = subprocess.Popen(  # noqa: S603 - git of this host, with arguments of its own
                    ["git", *settings, "fetch", *options, f"fd::{theirs.fileno()}", refs],  # noqa: S607
                    cwd=target,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stderr=subprocess.PIPE,
                )
        except FileNotFoundError:
            raise Failure("no_git", "git is not installed on this host", hint="install git") from None
        sending = threading.Thread(target=_send_requests, args=(ours, connection), daemon=True)
        sending.start()
        # It has words of the agent's ("remote: ..."), which git passes on as they are.
        saying = threading.Thread(target=_say, args=(git.stderr,), daemon=True)
        saying.start()
        _pass_on_output(stream, ours)
        code = git.wait()
        saying.join()
    if code and stream.errors:
        said = escaped_line(stream.errors.decode(errors="replace").strip()[-600:])
        raise Failure("cannot_fetch", f"nothing was fetched: {agent} says: {said}", hint="check the repository's name")
    return code


def _send_requests(git: socket.socket, connection: socket.socket) -> None:
    """Pass on what git of this host sends, in a thread of its own."""
    try:
        while data := git.recv(_CHUNK):
            _send_all(connection, frames.encode(frames.STDIN, data))
        _send_all(connection, frames.encode(frames.EOF))
    except OSError:
        pass  # One of both sides has ended, which the other thread sees.


def _send_all(connection: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            select.select([], [connection], [])


def _pass_on_output(stream: FrameStream, git: socket.socket) -> None:
    try:
        while data := stream.read(_CHUNK):
            git.sendall(data)
    except OSError:
        pass  # Git has ended.
    finally:
        git.shutdown(socket.SHUT_RDWR)


def _say(output: IO[bytes]) -> None:
    with output:
        for line in shown_lines(lambda: os.read(output.fileno(), _CHUNK)):
            click.echo(line, err=True)


def _check_end(stream: FrameStream, agent: str, what: str) -> None:
    if stream.end is not None and stream.end.shell_code:
        said = escaped_line(stream.errors.decode(errors="replace").strip()[-600:])
        raise Failure(
            "session_failed",
            f"{what} in {agent} ended with {stream.end.shell_code}: {said}",
            hint=f'look at it yourself: "hive-c0re shell {agent}"',
        )
