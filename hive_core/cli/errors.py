"""What a command ends with when it cannot do its work: one or two lines, or JSON, and an exit code."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from hive_core.text import escaped_line

_ONE_LINE = 160


class Failure(click.ClickException):
    """The command was refused or failed. `code` is for programs; `hint` says what to do.

    `passing` failures go away by themselves when a daemon restarts; who waits for something tries again.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.passing = passing
        context = click.get_current_context(silent=True)
        self.as_json = context is not None and bool(context.params.get("as_json"))

    def format_message(self) -> str:
        """Message and hint on one line if they fit, else on two. Both may quote agents."""
        message, hint = escaped_line(self.message), escaped_line(self.hint)
        if not hint:
            return message
        short = f"{message} ({hint})"
        return short if len(short) <= _ONE_LINE else f"{message}\n  {hint}"

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            error = {"code": self.code, "message": self.message, "hint": self.hint}
            text = json.dumps({"error": error})
        else:
            text = f"hive-c0re: {self.format_message()}"
        click.echo(text, file=file, err=file is None)


class NoDaemon(Failure):
    """Nobody listens on the socket."""

    exit_code = 3


class StepFailed(Failure):
    """A step of `doctor --live` failed: shown as the result of the step, not as the end of the command."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__("step_failed", message, hint=hint)


class AskTimedOut(Failure):
    """The answer did not come in time."""

    exit_code = 4
