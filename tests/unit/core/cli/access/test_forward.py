"""Connections to a port of an agent whose side of the session is not the hive's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hive_core.cli.access import forward
from hive_core.cli.access.forward import Forwarder, listen
from hive_core.protocol.access import frames


class Port:
    """A forwarded port, and the agent's side of it."""

    def __init__(self, session: socket.socket, agent: socket.socket, listener: socket.socket) -> None:
        self.agent = agent
        self.address = listener.getsockname()
        self.reported: list[str] = []
        self._forwarder = Forwarder(session, listener, self.reported.append)
        self.serving = threading.Thread(target=self._serve)
        self.processor_seconds = 0.0
        self.serving.start()

    def _serve(self) -> None:
        self._forwarder.serve()
        self.processor_seconds = time.thread_time()

    def call(self) -> tuple[socket.socket, socket.socket]:
        """Return a caller's connection and the agent's end of it."""
        caller = socket.create_connection(self.address, 10)
        _, descriptors, _, _ = socket.recv_fds(self.agent, frames.HEADER.size, 1)
        return caller, socket.socket(fileno=descriptors[0])


@pytest.fixture
def port() -> Iterator[Port]:
    session, agent = socket.socketpair()
    with session, agent, listen(0) as listener:
        port = Port(session, agent, listener)
        yield port
        agent.close()
        port.serving.join()


def test_an_answer_in_parts_keeps_no_processor_busy(port: Port) -> None:
    """An agent that sends half an answer costs no time, and the answer counts when it is complete."""
    caller, end = port.call()
    with caller, end:
        answer = frames.encode_json(frames.ANSWER, {})
        end.sendall(answer[:6])
        threading.Event().wait(0.3)
        end.sendall(answer[6:] + b"behind it")
        assert caller.recv(100) == b"behind it"
        port.agent.shutdown(socket.SHUT_RDWR)
        port.serving.join()
    assert port.processor_seconds < 0.1


def test_an_agent_that_never_answers_keeps_no_caller(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that the agent's side does not answer is ended after a while, and that is said."""
    monkeypatch.setattr(forward, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(forward, "_CHECK_SECONDS", 0.01)
    caller, end = port.call()
    with caller, end:
        assert caller.recv(1) == b""
    assert port.reported == ["no answer"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (frames.encode_error("no_connection", "no\x1b[31m way"), "no\\x1b[31m way"),
        (frames.encode(frames.STDOUT, b"early"), "no answer: a frame of the type 0x20, which does not belong there"),
        (frames.HEADER.pack(frames.ANSWER, 200_000), "no answer: an answer that is too long"),
    ],
)
def test_what_is_no_answer_ends_the_connection(port: Port, sent: bytes, said: str) -> None:
    """A caller of the port is hung up on, and the reason is shown as text, whatever the agent's side sends."""
    caller, end = port.call()
    with caller, end:
        end.sendall(sent)
        assert caller.recv(1) == b""
    assert port.reported == [said]
