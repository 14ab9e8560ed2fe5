"""`hive-c0re history`: the deployments of an agent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.output import Column, render
from hive_core.cli.terminal import width
from hive_core.cli.times import ago, now
from hive_core.cli.untrusted import first_line, one_line

_SHORT_SHA = 12


def _number(text: str, padded: str) -> str:
    return colours.state("deployed", padded) if text.startswith("*") else padded


COLUMNS = (
    Column("NUMBER", 9, right=True, style=_number),
    Column("KIND", 3),
    Column("DEPLOYED", 8),
    Column("COMMIT", 7),
    Column("BY", 5),
    Column("APPROVED BY", 4),
    Column("NOTE", 6),
)


@click.command()
@click.argument("agent", metavar="AGENT", shell_complete=complete_agents)
@click.option("-n", "--limit", type=int, default=50, show_default=True, help="Most deployments to show, the newest.")
@click.option("--offset", type=int, default=0, help="Leave out so many of the newest.")
@json_option
@click.pass_obj
def history(socket: str | None, agent: str, limit: int, offset: int, as_json: bool) -> None:
    """Show the deployments of an agent, the newest first.

    The one in force is marked with *. "hive-c0re rollback AGENT NUMBER" deploys one of them again.
    """
    answer = Client(socket).get(agent_path(agent, "history"), {"limit": limit, "offset": offset})
    if as_json:
        print_json(answer)
        return
    moment = now()
    deployments = answer.get("deployments", [])
    if not deployments:
        click.echo("no deployments to show", err=True)
        return
    for line in render(COLUMNS, [_row(deployment, moment) for deployment in deployments], width()):
        click.echo(line)


def _row(deployment: dict[str, Any], moment: datetime) -> list[str]:
    cells = [
        f"{'*' if deployment.get('current') else ''}{deployment.get('number')}",
        deployment.get("kind"),
        ago(deployment.get("deployed_at"), moment),
        str(deployment.get("commit"))[:_SHORT_SHA],
        deployment.get("by"),
        ", ".join(str(party) for party in deployment.get("approved_by", [])),
    ]
    return [*(one_line(str(cell)) for cell in cells), first_line(str(deployment.get("note", "")))]
