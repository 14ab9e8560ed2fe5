"""Tests of the frames and the opening of a session."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hive_core.protocol import AccessRequest
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, Exit, Frame, FrameReader
from hive_core.protocol.access.opening import Opening, Terminal, decode_opening

_FRAMES = st.lists(
    st.builds(Frame, st.sampled_from(sorted(frames.FROM_AGENT)), st.binary(max_size=2_000)), min_size=1, max_size=8
)


def _joined(given: list[Frame]) -> list[Frame]:
    """Return frames with those of the stream's type that follow each other put together."""
    joined: list[Frame] = []
    for frame in given:
        if joined and frame.kind == joined[-1].kind == frames.STDOUT:
            joined[-1] = Frame(frame.kind, bytes(joined[-1].content) + frame.content)
        else:
            joined.append(frame)
    return joined


@given(_FRAMES, st.lists(st.integers(1, 900), min_size=1))
def test_frames_arrive_in_parts_of_any_size(sent: list[Frame], sizes: list[int]) -> None:
    """The reader returns every frame that was sent, however the bytes are cut."""
    stream = b"".join(frames.encode(*frame) for frame in sent)
    reader, found, start, number = FrameReader(frames.FROM_AGENT), [], 0, 0
    while start < len(stream):
        size = sizes[number % len(sizes)]
        found += reader.feed(stream[start : start + size])
        start, number = start + size, number + 1
    assert found == sent
    assert not reader.pending


@given(_FRAMES, st.lists(st.integers(1, 900), min_size=1))
def test_frames_of_streams_are_passed_on_in_parts(sent: list[Frame], sizes: list[int]) -> None:
    """Of a stream's frames every byte is returned as soon as it is there, in order among the other frames."""
    stream = b"".join(frames.encode(*frame) for frame in sent)
    reader = FrameReader(frames.FROM_AGENT, streams=frozenset({frames.STDOUT}))
    found: list[Frame] = []
    buffer, start, number = memoryview(bytearray(900)), 0, 0
    while start < len(stream):
        size = min(sizes[number % len(sizes)], len(stream) - start)
        buffer[:size] = stream[start : start + size]
        # The buffer is used again, so what is returned is taken before.
        found += [Frame(kind, bytes(content)) for kind, content in reader.feed(buffer[:size])]
        start, number = start + size, number + 1
    assert _joined(found) == _joined(sent)
    assert not reader.pending


@pytest.mark.parametrize(
    "header",
    [
        frames.HEADER.pack(frames.STDOUT, frames.MOST_BYTES + 1),
        frames.HEADER.pack(frames.STDIN, 0),
        frames.HEADER.pack(frames.OPENING, 2),
        b"HTTP/1.1 200",
    ],
)
def test_what_is_no_frame_is_refused_at_once(header: bytes) -> None:
    """A frame that is too long, or of a type that the sender may not use, is refused by its header."""
    with pytest.raises(BadFrame):
        FrameReader(frames.FROM_AGENT).feed(header)


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_refused(noise: bytes) -> None:
    """The reader takes any bytes without another failure than its own."""
    reader = FrameReader(frames.FROM_AGENT)
    try:
        for frame in reader.feed(noise):
            if frame.kind == frames.EXIT:
                frames.decode_exit(frame.content)
            elif frame.kind in (frames.ANSWER, frames.ERROR):
                frames.decode_json(frame.content)
    except BadFrame:
        pass


def test_an_opening_is_read_as_it_was_written() -> None:
    """The agent's side reads exactly the opening that the daemon has written."""
    opening = Opening(
        "run",
        "operator:ina",
        ("sh", "-c", "echo \udcff"),
        Terminal(80, 24, "xterm"),
        "/code/web",
        {"A": "b"},
        backend="claude",
        variables=("X_*",),
    )
    (frame,) = FrameReader(frozenset({frames.OPENING})).feed(opening.encode())
    assert decode_opening(bytes(frame.content)) == opening


@pytest.mark.parametrize("content", [b"", b"[]", b'{"kind": "swim"}', b'{"kind": "run", "terminal": 3}', b"[" * 50_000])
def test_an_opening_that_cannot_be_read_is_refused(content: bytes) -> None:
    """What is no opening is refused with BadFrame."""
    with pytest.raises(BadFrame):
        decode_opening(content)


def test_requests_are_taken_as_clients_make_them() -> None:
    """A request made by a client is taken, and one with a value that no session can have is refused."""
    for request in (
        Opening("run", argv=("true",), terminal=Terminal(80, 24, "xterm-256color"), directory="/code"),
        Opening("connect", port=3_000),
        Opening("put", path="/state", name="notes", into=True),
    ):
        AccessRequest.model_validate_json(json.dumps(request.as_request()))
    for wrong in (
        {"kind": "forward", "port": 70_000},
        {"kind": "put", "path": "/state", "name": "a/b"},
        {"kind": "run", "argv": ["a\0b"]},
        {"kind": "run", "environment": {"A=B": "c"}},
        {"kind": "run", "who": "operator:root"},
    ):
        with pytest.raises(ValidationError):
            AccessRequest.model_validate(wrong)


def test_the_exit_code_of_a_signal_is_that_of_shells() -> None:
    """The end of a program is passed on in one form: its code, or 128 and the signal."""
    assert frames.decode_exit(frames.END.pack(7, 0)) == Exit(7, 0)
    assert frames.decode_exit(frames.END.pack(0, 15)).shell_code == 143
    with pytest.raises(BadFrame):
        frames.decode_exit(b"1")
