"""Copies between this host and an agent."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.access.tar_reader import BadStream, TarReader
from hive_core.cli.access.tar_writer import TarWriter
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.protocol.access.opening import Opening
from hive_core.text import escaped_line, format_bytes

_SHOW_SECONDS = 0.2
_LONGEST_ERRORS = 600


class Copied(NamedTuple):
    """The result of a copy. `left_out` are the first of what was not copied, with the reasons."""

    files: int
    bytes: int
    left_out: Sequence[str]
    left_out_count: int


def copy_out(client: Client, agent: str, path: str, target: Path) -> Copied:
    """Copy a path of an agent to this host, into `target` if that is a directory. Raises Failure."""
    into = target.is_dir()
    directory = target if into else target.parent
    try:
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_target(directory, error) from None
    try:
        connection, answer = session.open_answered(client, agent, Opening("get", path=path))
        with closing(connection), _progress() as count:
            stream = FrameStream(connection, agent)
            first = str(answer.get("name", ""))
            name = Path(path).name if into else target.name
            if name in ("", ".", "..", "/"):
                name = agent  # All of the agent's files.
            with TarReader(stream, top, first, name, count.add) as reader:
                try:
                    reader.read_all()
                except BadStream as error:
                    _check_end(stream, agent)
                    raise session.bad_stream(agent, str(error)) from None
            stream.finish()
            _check_end(stream, agent)
            return Copied(reader.files, count.bytes, reader.left_out, reader.left_out_count)
    except OSError as error:
        raise _no_target(target, error) from None
    finally:
        os.close(top)


def copy_in(client: Client, agent: str, source: Path, path: str, *, into: bool) -> Copied:
    """Copy a path of this host to an agent, into `path` if that is a directory. Raises Failure."""
    # Not resolved: a link that is named keeps its name.
    name = source.name if source.name not in ("", "..") else source.resolve().name
    try:
        source.stat()
        opening = Opening("put", path=path, name=name or "root", into=into)
        connection, answer = session.open_answered(client, agent, opening)
        with closing(connection), _progress() as count:
            stream = FrameStream(connection, agent)
            writer = TarWriter(stream, count.add)
            writer.write(source, str(answer.get("name", name)))
            stream.finish()
            _check_end(stream, agent)
            return Copied(writer.files, count.bytes, writer.left_out, writer.left_out_count)
    except OSError as error:
        raise Failure(
            "cannot_copy", f"cannot read {source}: {error.strerror or error}", hint="check its name and its mode"
        ) from None


def _check_end(stream: FrameStream, agent: str) -> None:
    """Raise Failure if the agent's side has failed, with the last that it said."""
    if stream.end is None or stream.end.shell_code == 0:
        return
    lines = stream.errors.decode(errors="replace").strip()[-_LONGEST_ERRORS:].splitlines()
    said = "; ".join(escaped_line(line) for line in lines)
    raise Failure(
        "cannot_copy",
        f"not all was copied: tar in {agent} ended with {stream.end.shell_code}{' and said: ' if said else ''}{said}",
        hint="what was copied before is there",
    )


def _no_target(path: Path, error: OSError) -> Failure:
    return Failure(
        "cannot_copy", f"cannot write to {path}: {error.strerror or error}", hint="choose another target, or make room"
    )


class _Count:
    """The bytes that were copied, shown while they are."""

    def __init__(self, show: Callable[[int], None] | None) -> None:
        self.bytes = 0
        self._show = show
        self._next = 0.0

    def add(self, count: int) -> None:
        """Count bytes."""
        self.bytes += count
        if self._show is not None and (now := time.monotonic()) >= self._next:
            self._next = now + _SHOW_SECONDS
            self._show(self.bytes)


@contextmanager
def _progress() -> Iterator[_Count]:
    """Yield the count of bytes; on a terminal it is shown on stderr."""
    shown = sys.stderr.isatty()

    def show(count: int) -> None:
        click.echo(f"\r{format_bytes(count)} copied \x1b[K", nl=False, err=True)

    try:
        yield _Count(show if shown else None)
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
