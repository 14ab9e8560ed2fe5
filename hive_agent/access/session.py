"""One session: its opening, and what it is for."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hive_agent.access import connections, files, program
from hive_agent.access.environment import default_directory, login_shell, session_environment
from hive_agent.access.refusal import Refusal
from hive_agent.access.stream import ProgramStream
from hive_core.protocol.access import frames
from hive_core.protocol.access.opening import Opening, Terminal, decode_opening

_OPENING_SECONDS = 10.0
"""Longest that the daemon may take for an opening, which it writes as soon as it has connected."""


def serve(connection: socket.socket, variables: Mapping[str, str]) -> None:
    """Serve one session to its end; `variables` are those of the agent."""
    try:
        opening = _read_opening(connection)
    except (OSError, EOFError, frames.BadFrame):
        return
    # Callers that gave up before anybody accepted their connection do not want it any more.
    if connections.has_gone(connection):
        return
    try:
        _serve_opened(connection, opening, variables)
    except Refusal as refusal:
        with suppress(OSError):
            connection.setblocking(True)
            connection.sendall(frames.encode_error(refusal.code, str(refusal), refusal.hint))
    except OSError:
        pass  # The caller has gone.


def _serve_opened(connection: socket.socket, opening: Opening, variables: Mapping[str, str]) -> None:
    environment = session_environment(variables, opening)
    directory = opening.directory or default_directory(variables)
    if opening.kind == "connect":
        connections.serve_one(connection, opening.port)
    elif opening.kind == "forward":
        connections.Forward(connection, opening.port).serve()
    elif opening.kind == "run":
        argv = opening.argv or (login_shell(environment),)
        _run(connection, argv, environment, directory, opening.terminal)
    else:
        tar = files.reading(opening.path) if opening.kind == "get" else files.writing(opening)
        _run(connection, tar.argv, environment, "/", answer={"name": tar.name})


def _run(
    connection: socket.socket,
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    terminal: Terminal | None = None,
    answer: Mapping[str, object] | None = None,
) -> None:
    started = program.start(argv, environment, directory, terminal)
    try:
        connection.sendall(frames.encode_json(frames.ANSWER, answer or {}))
    except OSError:
        started.end()
        return
    ProgramStream(connection, started).run()


def _read_opening(connection: socket.socket) -> Opening:
    """Read the opening, and nothing behind it. Raises BadFrame, EOFError and OSError."""
    connection.settimeout(_OPENING_SECONDS)
    _, length = frames.decode_header(_read(connection, frames.HEADER.size), frozenset({frames.OPENING}))
    opening = decode_opening(_read(connection, length))
    connection.settimeout(None)
    return opening


def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
