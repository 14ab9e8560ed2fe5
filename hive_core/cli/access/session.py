"""Opening a session, and reading what the agent's side answers. All of that is the agent's word."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

from hive_core.cli.access.descriptor import post_for_socket
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, Frame
from hive_core.protocol.access.opening import Opening
from hive_core.text import escaped_line

ANSWER_SECONDS = 20.0
"""Longest that the agent's side may take to begin a session."""
NOT_EXECUTABLE, NO_PROGRAM = 126, 127
"""Exit codes of shells for commands that cannot be executed, or are not found."""
_EXIT_CODES = {"not_executable": NOT_EXECUTABLE, "no_program": NO_PROGRAM}
_LONGEST = 500


class SessionFailure(Failure):
    """A session that could not begin or has broken off."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message, hint=hint)
        self.exit_code = _EXIT_CODES.get(code, 1)  # type: ignore[misc]


def open_session(client: Client, agent: str, opening: Opening) -> socket.socket:
    """Open a session and return its connection, behind the answer of the agent's side. Raises Failure."""
    return open_answered(client, agent, opening)[0]


def open_answered(client: Client, agent: str, opening: Opening) -> tuple[socket.socket, dict[str, Any]]:
    """Open a session; return its connection, and the answer of the agent's side. Raises Failure."""
    connection = post_for_socket(client, agent_path(agent, "access"), opening.as_request())
    try:
        return connection, read_answer(connection, agent)
    except BaseException:
        connection.close()
        raise


def read_answer(connection: socket.socket, agent: str) -> dict[str, Any]:
    """Read the first frame of the agent's side, and nothing behind it. Raises Failure."""
    until = time.monotonic() + ANSWER_SECONDS
    try:
        kind, length = frames.decode_header(_read(connection, frames.HEADER.size, until), frames.FROM_AGENT)
        frame = Frame(kind, _read(connection, length, until))
        if frame.kind == frames.ERROR:
            raise refusal(frame.content, agent)
        if frame.kind != frames.ANSWER:
            raise BadFrame("output before an answer")
        answer = frames.decode_json(frame.content)
    except BadFrame as error:
        raise bad_frame(agent, error) from None
    except TimeoutError:
        raise SessionFailure(
            "no_session",
            f"{agent} did not begin the session within {ANSWER_SECONDS:.0f} s",
            hint=f'its harness may not have started yet, or be older than sessions are: see "hive-c0re show {agent}"',
        ) from None
    except (OSError, EOFError):
        raise broken_off(agent) from None
    connection.settimeout(None)
    return answer


def refusal(content: bytes | memoryview, agent: str) -> Failure:
    """Return the failure that the agent's side has sent. Its words are shown as the agent's."""
    found = frames.decode_json(content)
    code, message, hint = (found.get(key, "") for key in ("code", "message", "hint"))
    if not all(isinstance(text, str) for text in (code, message, hint)):
        raise BadFrame("an error without words")
    known = code if len(code) <= 64 and code.isascii() and code.replace("_", "").isalpha() else "session_failed"
    return SessionFailure(known, f"{agent} says: {message[:_LONGEST]}", hint=hint[:_LONGEST])


def bad_frame(agent: str, error: BadFrame) -> Failure:
    """Return the failure of a session whose other end does not keep to the protocol."""
    return SessionFailure(
        "bad_frame",
        f"the session was ended: {agent} sent {error}",
        hint="the program that serves sessions in the agent is not the hive's, or is broken",
    )


def bad_stream(agent: str, what: str) -> Failure:
    """Return the failure of a copy whose stream is not what it should be."""
    return SessionFailure(
        "bad_stream",
        f"the copy was ended: {agent} sent {what}",
        hint="what was copied before is there",
    )


def broken_off(agent: str) -> Failure:
    """Return the failure of a session that ended without an answer or an exit code."""
    return SessionFailure(
        "session_broken_off",
        f"the session in {escaped_line(agent)} broke off",
        hint=f'the agent was stopped, or what serves its sessions was: see "hive-c0re show {agent}"',
    )


def close(connection: socket.socket) -> None:
    """End a session."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _read(connection: socket.socket, length: int, until: float) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        # For all parts together: else an agent that sends one byte at a time could take days.
        if (left := until - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
