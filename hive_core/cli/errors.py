"""Errors of commands, shown as one or two lines or as JSON, each with an exit code."""

from __future__ import annotations

import json
import re
from typing import IO, Any

import click
from click.core import ParameterSource

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


_PART_OF_REQUEST = re.compile(r"^(body|query)\.")
_CONFIG = re.compile(r"^config\.")


def name_of_field(field: str) -> str:
    """Return the name of a field of the request that the user knows: of an option, an argument, or a key of agent.toml.

    `field` is its path in the request, such as `body.config.memory_max`. Parameters have the names of their fields.
    """
    path = _PART_OF_REQUEST.sub("", field)
    context = click.get_current_context(silent=True)
    given = {
        name: parameter
        for parameter in (context.command.params if context is not None else [])
        if (name := parameter.name) and context and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    for key in reversed(re.findall(r"\w+", path)):
        if key in given:
            return _name_of_parameter(given[key])
    return _CONFIG.sub("agent.toml: ", path)


def _name_of_parameter(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def hint_of_command() -> str:
    """Return the reference to the help of the command that runs."""
    context = click.get_current_context(silent=True)
    return "" if context is None else f'"{context.command_path} --help" shows what can be given'


class NoDaemon(Failure):
    """No daemon listens on the socket."""

    exit_code = 3


class StepFailed(Failure):
    """A step of `doctor --live` failed. It is shown as the result of the step and does not end the command."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__("step_failed", message, hint=hint)


class AskTimedOut(Failure):
    """The answer did not come in time, or will not come."""

    exit_code = 4
