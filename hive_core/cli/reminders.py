"""`hive-c0re reminders`: what agents want to be reminded of."""

from __future__ import annotations

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.output import Column, render
from hive_core.cli.terminal import width
from hive_core.cli.times import moment
from hive_core.cli.untrusted import first_line, one_line

COLUMNS = (
    Column("AGENT", 9, style=colours.agent),
    Column("NUMBER", 5, right=True),
    Column("AT", 8),
    Column("TEXT", 7),
)


@click.command()
@click.argument("agent", required=False, metavar="[AGENT]", shell_complete=complete_agents)
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Most reminders to show.")
@json_option
@click.pass_obj
def reminders(socket: str | None, agent: str | None, limit: int, as_json: bool) -> None:
    """Show what agents want to be reminded of.

    Those that are still to come, of one agent or all, the next one first.
    """
    answer = Client(socket).get("/v1/reminders", {"agent": agent, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found = answer.get("reminders", [])
    if not found:
        click.echo("no reminders to come", err=True)
        return
    rows = [
        [
            one_line(str(reminder.get("agent"))),
            one_line(str(reminder.get("id"))),
            moment(reminder.get("at")),
            first_line(str(reminder.get("text", ""))),
        ]
        for reminder in found
    ]
    click.echo("\n".join(render(COLUMNS, rows, width())))
    more = int(answer.get("total", 0)) - len(found)
    if more > 0:
        click.echo(f"later ones beside these: {more}", err=True)
