"""`hive-c0re propose`: propose a commit of an agent's configuration."""

from __future__ import annotations

import click

from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option
from hive_core.cli.notes import asked_for, note_option
from hive_core.cli.waiting import follow, is_over, is_undecided, report


@click.command()
@click.argument("agent", metavar="AGENT", shell_complete=complete_agents)
@click.argument("commit")
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the build.")
@json_option
@click.pass_context
def propose(context: click.Context, agent: str, commit: str, note: str | None, no_wait: bool, as_json: bool) -> None:
    """Propose a commit of an agent's configuration.

    COMMIT is the full id of a commit in the agent's config repository. Waits until it is built, and where a rule of
    the settings approves it, until it is deployed. Without --note the reason is asked for on a terminal.
    """
    agent_path(agent)
    reason = asked_for(context, note, "What is the change for?")
    client = Client(context.obj)
    answer = client.post("/v1/proposals", {"agent": agent, "commit": commit, "note": reason})
    if not no_wait:
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)
