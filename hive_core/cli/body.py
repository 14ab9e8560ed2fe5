"""The text of a message, from the command line or stdin."""

from __future__ import annotations

import sys

import click

from hive_core.cli.errors import Failure

body_argument = click.argument("body")
"""The message; `-` reads it from stdin."""


def read_body(given: str) -> str:
    """The message itself. Text from stdin is taken as it is, with its last newline."""
    if given != "-":
        return given
    if sys.stdin.isatty():
        click.echo("reading the message from the terminal; Ctrl-D on an empty line ends it", err=True)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Failure(
            "invalid_request", f"the text on stdin is not UTF-8 (byte {error.start})", hint="convert it with iconv"
        ) from None
