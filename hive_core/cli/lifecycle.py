"""`hive-c0re start`, `stop` and `restart`."""

from __future__ import annotations

import click

from hive_core.cli import colours
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line

STOP_SECONDS = 600.0
"""Longest time that the daemon's settings give an agent to stop by itself."""


@click.command()
@agent_argument
@json_option
@click.pass_obj
def start(socket: str | None, name: str, as_json: bool) -> None:
    """Start an agent that is stopped. Nothing happens if it runs already."""
    _act(socket, name, "start", as_json)


@click.command()
@agent_argument
@json_option
@click.pass_obj
def stop(socket: str | None, name: str, as_json: bool) -> None:
    """Stop an agent; its messages wait for it."""
    _act(socket, name, "stop", as_json)


@click.command()
@agent_argument
@json_option
@click.pass_obj
def restart(socket: str | None, name: str, as_json: bool) -> None:
    """Stop an agent and start it again. What it was working on is handed to it anew."""
    _act(socket, name, "restart", as_json)


def _act(socket: str | None, name: str, action: str, as_json: bool) -> None:
    answer = Client(socket).post(agent_path(name, action), {}, wait=STOP_SECONDS)
    if as_json:
        print_json(answer)
        return
    lifecycle = one_line(str(answer.get("lifecycle")))
    click.echo(f"{colours.agent(name)} is {colours.state(lifecycle)}")
