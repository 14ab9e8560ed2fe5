"""`hive-c0re list`: every agent on a line."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.output import Column, render
from hive_core.cli.terminal import width
from hive_core.cli.times import duration, now
from hive_core.cli.untrusted import one_line


def _state(text: str, padded: str) -> str:
    return colours.state(text.partition(" ")[0], padded)


def _waiting(text: str, padded: str) -> str:
    return colours.dim(padded) if text == "0" else padded


COLUMNS = (
    Column("NAME", 9, style=colours.agent),
    Column("KIND", 2),
    Column("LIFECYCLE", 6, style=_state),
    Column("STATE", 8, style=_state),
    Column("BACKEND", 3),
    Column("UNACKED", 7, right=True, style=_waiting),
    Column("RESTARTS", 4, right=True, style=_waiting),
    Column("DETAIL", 5),
)


@click.command("list")
@json_option
@click.pass_obj
def list_agents(socket: str | None, as_json: bool) -> None:
    """List all agents, the manager first.

    UNACKED counts messages that wait for the agent, RESTARTS those after crashes. What needs an update was built with
    an older hyperhive: see "hive-c0re rebuild". The last words of DETAIL are what the agent says it is at. A narrow
    terminal shows fewer columns.
    """
    answer = Client(socket).get("/v1/agents")
    if as_json:
        print_json(answer)
        return
    agents = answer.get("agents", [])
    if not agents:
        click.echo('no agents yet: make one with "hive-c0re spawn NAME"', err=True)
        return
    moment = now()
    for line in render(COLUMNS, [_row(agent, moment) for agent in agents], width()):
        click.echo(line)


def _row(agent: dict[str, Any], moment: datetime) -> list[str]:
    since = duration(agent.get("state_since"), moment)
    state = str(agent.get("state"))
    note = "needs an update" if agent.get("needs_update") else ""
    cells = [
        agent.get("name"),
        agent.get("kind"),
        agent.get("lifecycle"),
        f"{state} ({since})" if since else state,
        agent.get("backend"),
        agent.get("unacked"),
        agent.get("restarts"),
        "; ".join(filter(None, [note, agent.get("detail") or agent.get("exit_cause"), agent.get("status")])),
    ]
    return [one_line(str(cell)) for cell in cells]
