"""`hive-c0re rollback`: deploy an earlier deployment again."""

from __future__ import annotations

import click

from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option
from hive_core.cli.notes import asked_for, note_option
from hive_core.cli.proposal_names import agent_and_number, proposal_arguments
from hive_core.cli.waiting import follow, is_over, report


@click.command()
@proposal_arguments
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the deployment.")
@json_option
@click.pass_context
def rollback(
    context: click.Context, agent: str, number: str | None, note: str | None, no_wait: bool, as_json: bool
) -> None:
    """Deploy an earlier deployment of an agent again.

    NUMBER is one of "hive-c0re history AGENT"; without it the deployment before the present one is taken. Nothing is
    built; it is a new deployment with a number of its own. Without --note the reason is asked for on a terminal.
    """
    name, found = agent_and_number(agent, number)
    path = agent_path(name, "rollback")
    reason = asked_for(context, note, f"Why is {name} rolled back?")
    client = Client(context.obj)
    answer = client.post(path, {"note": reason} | ({"number": found} if found is not None else {}))
    if not no_wait:
        answer = follow(client, answer, is_over, quiet=as_json)
    report(answer, as_json)
