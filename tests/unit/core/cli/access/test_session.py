"""Answers of an agent's side that is not the hive's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.access.run import run
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.opening import Opening


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The caller's end of a session, and the agent's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "session_broken_off"),
        (b"\x02", "session_broken_off"),
        (frames.HEADER.pack(frames.ANSWER, 2**32 - 1), "bad_frame"),
        (b"SSH-2.0-OpenSSH\r\n", "bad_frame"),
        (frames.encode(frames.STDOUT, b"early"), "bad_frame"),
        (frames.encode(frames.ANSWER, b"[1]"), "bad_frame"),
        (frames.encode(frames.ERROR, b'{"code": 3}'), "bad_frame"),
        (frames.encode_error("no_program", "no\x1b[31m way"), "no_program"),
        (frames.encode_error("Not A Code\n", "words"), "session_failed"),
    ],
)
def test_what_is_no_answer_is_refused(ends: tuple[socket.socket, socket.socket], sent: bytes, code: str) -> None:
    """A caller hears that the agent's side sent no answer, in text that no terminal interprets."""
    ours, theirs = ends
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Failure) as caught:
        session.read_answer(ours, "ada")
    assert caught.value.code == code
    assert "\x1b" not in caught.value.format_message()


def test_an_agent_that_never_answers_costs_only_time(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller gives up after a while, and is told what may be wrong."""
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.02)
    with pytest.raises(Failure) as caught:
        session.read_answer(ends[0], "ada")
    assert caught.value.code == "no_session"


def test_an_answer_in_single_bytes_has_the_same_time(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that sends its answer byte by byte cannot keep a caller longer than one that sends nothing."""
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.1)
    ended = threading.Event()

    def dribble() -> None:
        with suppress(OSError):
            ends[1].sendall(frames.HEADER.pack(frames.ANSWER, 1_000))
            while not ended.wait(0.01):
                ends[1].sendall(b" ")

    sending = threading.Thread(target=dribble)
    sending.start()
    try:
        with pytest.raises(Failure) as caught:
            session.read_answer(ends[0], "ada")
    finally:
        ended.set()
        sending.join()
    assert caught.value.code == "no_session"


def test_nothing_behind_the_answer_is_read(ends: tuple[socket.socket, socket.socket]) -> None:
    """What follows the answer is left for whoever uses the connection: raw bytes, of a connection to a port."""
    ours, theirs = ends
    theirs.sendall(frames.encode_json(frames.ANSWER, {"name": "x"}) + b"raw")
    assert session.read_answer(ours, "ada") == {"name": "x"}
    assert ours.recv(10) == b"raw"


def test_a_stream_has_the_output_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    """Output arrives as one stream, errors beside it, cut; the end is known, also if input was not read any more."""
    ours, theirs = ends
    output = bytes(range(256)) * 3_000

    def answer() -> None:
        for start in range(0, len(output), 100_000):
            theirs.sendall(frames.encode(frames.STDOUT, output[start : start + 100_000]))
            theirs.sendall(frames.encode(frames.STDERR, b"e" * 3_000))
        theirs.sendall(frames.encode(frames.EXIT, frames.END.pack(3, 0)))
        theirs.close()

    sending = threading.Thread(target=answer)
    sending.start()
    stream = FrameStream(ours, "ada")
    assert stream.read_exactly(len(output)) == output
    sending.join()
    assert stream.write(b"too late") is False
    assert stream.finish() == frames.Exit(3, 0)
    assert stream.errors == b"e" * 4_096


def test_a_stream_that_breaks_off_is_no_end(ends: tuple[socket.socket, socket.socket]) -> None:
    """A connection that ends without an exit code is a failure."""
    ours, theirs = ends
    theirs.sendall(frames.encode(frames.STDOUT, b"half")[:-1])
    theirs.close()
    stream = FrameStream(ours, "ada")
    assert stream.read(100) == b"hal"
    with pytest.raises(Failure) as caught:
        stream.read(100)
    assert caught.value.code == "session_broken_off"


@pytest.mark.parametrize("escaped", [True, False])
def test_output_is_escaped_where_it_is_asked_for(
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    escaped: bool,
) -> None:
    """The output of programs, which an agent writes, reaches the terminal as text; that of exec as it is."""
    ours, theirs = ends
    for part in (b"a\x1b]0;b\x07", b"\nc\xff", b"\n\nend"):
        theirs.sendall(frames.encode(frames.STDOUT, part))
    theirs.sendall(frames.encode(frames.EXIT, frames.END.pack(3, 0)))
    monkeypatch.setattr(session, "open_session", lambda *_: ours)
    client = Client("host.sock")
    assert run(client, "ada", Opening("run", argv=("x",)), stdin=False, escaped=escaped) == 3
    expected = b"a\\x1b]0;b\\x07\nc\\xff\n\nend\n" if escaped else b"a\x1b]0;b\x07\nc\xff\n\nend"
    assert capfdbinary.readouterr().out == expected
