"""`hive-c0re watch`: the live flow of the hive."""

from __future__ import annotations

import click

from hive_core.cli.client import Client
from hive_core.cli.event_stream import follow
from hive_core.cli.events import lines
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.terminal import width


@click.command()
@click.option("--after", type=int, metavar="ID", help="Begin after this event, not with what happens next.")
@click.option("-v", "--verbose", is_flag=True, help="Show when messages are handed out and handled, too.")
@json_option
@click.pass_obj
def watch(socket: str | None, after: int | None, verbose: bool, as_json: bool) -> None:
    """Show live what goes on in the hive.

    Messages, what agents do, and what becomes of their processes, until Ctrl-C. Goes on where it was when the
    daemon restarts.
    """
    for event in follow(Client(socket), after, lambda text: click.echo(text, err=True)):
        if as_json:
            print_json(event)
            continue
        shown = lines(event, width(), verbose)
        if shown:
            click.echo("\n".join(shown))
