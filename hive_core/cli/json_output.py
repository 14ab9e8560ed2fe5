"""`--json`: the daemon's answers on stdout, for programs."""

from __future__ import annotations

import json

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")


def print_json(answer: object) -> None:
    """One JSON document on a line of its own, in printable ASCII: it is safe on a terminal, too."""
    click.echo(json.dumps(answer).replace("\x7f", "\\u007f"))
