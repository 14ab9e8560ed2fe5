"""`hive-c0re logs`: what an agent's harness wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line

_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5


@click.command()
@agent_argument
@click.option("-n", "--lines", "count", type=int, default=100, show_default=True, help="How many lines, the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@json_option
@click.pass_obj
def logs(socket: str | None, name: str, count: int, follow: bool, as_json: bool) -> None:
    """Show the log of an agent."""
    client = Client(socket)
    show = print_json if as_json else print_lines
    answer = client.get(agent_path(name, "logs"), {"lines": count})
    show(answer)
    if follow:
        _follow(client, name, str(answer.get("cursor")), show)


def print_lines(answer: dict[str, Any], err: bool = False) -> None:
    """The lines of a LogsAnswer, each on one line whatever it holds."""
    for line in answer.get("lines", []):
        click.echo(one_line(str(line)), err=err)


def _follow(client: Client, name: str, cursor: str, show: Callable[[dict[str, Any]], None]) -> None:
    """Go on from `cursor` for ever, also after the daemon was restarted."""
    while True:
        query = {"cursor": cursor, "wait_seconds": _POLL_SECONDS}
        try:
            answer = client.get(agent_path(name, "logs"), query, wait=_POLL_SECONDS)
        except Failure as failure:
            if not failure.passing:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        cursor = str(answer.get("cursor"))
        if answer.get("lines"):
            show(answer)
