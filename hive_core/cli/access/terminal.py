"""The caller's terminal during a session: raw, its size, and the way out that ssh has too."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from hive_core.protocol.access.opening import Terminal

LEAVE = b"~."
"""Typed at the beginning of a line, it ends the session, also if the agent does not answer any more."""


def terminal_of(descriptor: int) -> Terminal:
    """Return size and type of the terminal."""
    columns, rows = size_of(descriptor)
    name = os.environ.get("TERM", "")
    usable = name.isascii() and 0 < len(name) <= 64 and name[0].isalnum() and name.replace("-", "").isprintable()
    plain = usable and all(letter.isalnum() or letter in "._+-" for letter in name)
    return Terminal(columns, rows, name if plain else "xterm")


def size_of(descriptor: int) -> tuple[int, int]:
    """Return columns and rows of the terminal; 80 and 24 if it does not know."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


@contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Pass on every key as it is typed; the terminal's settings are restored in any case."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Keys:
    """The typed keys, without the way out of the session."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._held = b""
        self.left = False
        """True after the way out was typed."""

    def take(self, typed: bytes) -> bytes:
        """Return the keys to pass on."""
        passed = bytearray()
        for key in (typed[index : index + 1] for index in range(len(typed))):
            if self._held:
                if key == LEAVE[1:]:
                    self.left = True
                    break
                passed += self._held
                self._held = b""
                if key == LEAVE[:1]:  # Twice means the key itself.
                    self._at_line_start = False
                    continue
            if key == LEAVE[:1] and self._at_line_start:
                self._held = key
                continue
            passed += key
            self._at_line_start = key in (b"\r", b"\n")
        return bytes(passed)
