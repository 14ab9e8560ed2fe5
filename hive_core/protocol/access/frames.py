"""Frames of a session: a header of five bytes, type and length, and at most 256 KiB of content."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

HEADER = struct.Struct(">BI")
"""Type of the frame, and length of its content."""
MOST_BYTES = 256 * 1024
"""Largest content of a frame; a longer one ends the session."""

OPENING = 0x01
"""From the daemon, first: JSON, see `opening.Opening`."""
ANSWER = 0x02
"""From the agent's side: the session has begun. JSON, an object; unknown keys are ignored."""
ERROR = 0x03
"""From the agent's side: the session has failed and ends. JSON: `code`, `message`, `hint`."""
STDIN = 0x10
"""From the caller: bytes for the program."""
EOF = 0x11
"""From the caller: the end of the program's stdin; empty. With a terminal it has no effect."""
RESIZE = 0x12
"""From the caller: the new size of its terminal, `WINDOW`."""
SIGNAL = 0x13
"""From the caller: a signal for the program, one byte with its number on Linux."""
STDOUT = 0x20
"""From the agent's side: bytes that the program wrote to its stdout or terminal."""
STDERR = 0x21
"""From the agent's side: bytes that the program wrote to its stderr."""
EXIT = 0x22
"""From the agent's side, last: the end of the program, `END`."""
CHANNEL = 0x30
"""From the caller, with a descriptor attached to its header: a further connection; empty."""

WINDOW = struct.Struct(">HH")
"""Columns and rows."""
END = struct.Struct(">BB")
"""Exit code, and the number of the signal that ended the program; one of both is 0."""

FROM_CALLER = frozenset({STDIN, EOF, RESIZE, SIGNAL, CHANNEL})
FROM_AGENT = frozenset({ANSWER, ERROR, STDOUT, STDERR, EXIT})

SIGNALS = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGTSTP, signal.SIGWINCH),
    }
)
"""Signals that a caller may send."""


class BadFrame(Exception):
    """The other side sent what is no frame of this protocol; the text says what."""


class Frame(NamedTuple):
    """One frame, or the part of one that has arrived; then the content is a view, which holds until the next read."""

    kind: int
    content: bytes | memoryview


class Exit(NamedTuple):
    """The end of a program: its exit code, or the number of the signal that ended it; the other one is 0."""

    code: int
    signal: int

    @property
    def shell_code(self) -> int:
        """The exit code by which shells report this end."""
        return 128 + self.signal if self.signal else self.code


def encode(kind: int, content: bytes | memoryview = b"") -> bytes:
    """Return a frame as bytes."""
    return HEADER.pack(kind, len(content)) + content


def encode_json(kind: int, content: Mapping[str, object]) -> bytes:
    """Return a frame whose content is JSON."""
    return encode(kind, json.dumps(content).encode())


def encode_error(code: str, message: str, hint: str = "") -> bytes:
    """Return the frame ERROR; long texts are cut."""
    return encode_json(ERROR, {"code": code[:64], "message": message[:4_000], "hint": hint[:1_000]})


def decode_json(content: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object of a frame. Raises BadFrame."""
    try:
        found = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise BadFrame("a frame whose JSON cannot be read") from None
    if not isinstance(found, dict):
        raise BadFrame("a frame whose JSON is no object")
    return found


def decode_exit(content: bytes | memoryview) -> Exit:
    """Return the content of the frame EXIT. Raises BadFrame."""
    if len(content) != END.size:
        raise BadFrame("a frame of the wrong length")
    return Exit(*END.unpack(content))


def decode_header(header: bytes, allowed: frozenset[int]) -> tuple[int, int]:
    """Return type and length of a frame from its header. Raises BadFrame for what the other side may not send."""
    kind, length = HEADER.unpack(header)
    if kind not in allowed:
        raise BadFrame(f"a frame of the type 0x{kind:02x}, which does not belong there")
    if length > MOST_BYTES:
        raise BadFrame(f"a frame of {length} bytes, the most is {MOST_BYTES}")
    return kind, length


class FrameReader:
    """Takes frames out of bytes that arrive in parts of any size. It keeps at most one unfinished frame."""

    def __init__(self, allowed: frozenset[int], streams: frozenset[int] = frozenset()) -> None:
        """`allowed` are the types that the other side may send. Frames of `streams` are returned in parts."""
        self._allowed = allowed
        self._streams = streams
        self._arrived = bytearray()
        self._stream = 0
        self._left = 0

    @property
    def pending(self) -> int:
        """The number of bytes of an unfinished frame."""
        return len(self._arrived)

    def feed(self, arrived: bytes | memoryview) -> list[Frame]:
        """Return the frames that are complete with these bytes. Raises BadFrame.

        Of a frame of `streams` it returns what has arrived, as a view of `arrived`: large streams are not copied.
        """
        frames: list[Frame] = []
        rest = memoryview(arrived)
        while rest:
            if self._left:
                part, rest = rest[: self._left], rest[self._left :]
                self._left -= len(part)
                frames.append(Frame(self._stream, part))
                continue
            rest = self._take(rest, HEADER.size)
            if len(self._arrived) < HEADER.size:
                break
            kind, length = decode_header(bytes(self._arrived[: HEADER.size]), self._allowed)
            if kind in self._streams and length:
                self._arrived.clear()
                self._stream, self._left = kind, length
                continue
            rest = self._take(rest, HEADER.size + length)
            if len(self._arrived) < HEADER.size + length:
                break
            frames.append(Frame(kind, bytes(self._arrived[HEADER.size :])))
            self._arrived.clear()
        return frames

    def _take(self, rest: memoryview, length: int) -> memoryview:
        """Keep bytes of `rest` until `length` of the frame are there, and return what is left of it."""
        missing = max(length - len(self._arrived), 0)
        self._arrived += rest[:missing]
        return rest[missing:]
