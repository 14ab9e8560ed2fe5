"""The end of a session for a reason that its caller is told."""

from __future__ import annotations


class Refusal(Exception):
    """The session cannot begin, or go on. `code` is for programs, `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
