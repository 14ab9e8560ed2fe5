"""Errors of commands, shown as one or two lines or as JSON, each with an exit code."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from hive_core.text import escaped_line

_ONE_LINE = 160


class Failure(click.ClickException):
    """The command was refused or failed. `code` is for programs; `hint` says what to do.

    `transient` failures end when the daemon has restarted, so a command that waits for something tries again.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.transient = transient
        context = click.get_current_context(silent=True)
        self.as_json = context is not None and bool(context.params.get("as_json"))

    def format_message(self) -> str:
        """Return message and hint on one line if they fit, else on two. Both may quote agents, so they are escaped."""
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
    """No daemon listens on the socket."""

    exit_code = 3


class StepFailed(Failure):
    """A step of `doctor --live` failed. It is shown as the result of the step and does not end the command."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__("step_failed", message, hint=hint)


class AskTimedOut(Failure):
    """The answer did not come in time."""

    exit_code = 4
