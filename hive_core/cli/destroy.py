"""`hive-c0re destroy`: remove an agent."""

from __future__ import annotations

import sys

import click

from hive_core.cli import colours
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.lifecycle import STOP_SECONDS
from hive_core.cli.terminal import can_ask
from hive_core.cli.untrusted import one_line


@click.command()
@agent_argument
@click.option("--purge", is_flag=True, help="Remove its files and waiting messages, too. There is no way back.")
@click.option("--yes", is_flag=True, help="Purge without asking.")
@json_option
@click.pass_context
def destroy(context: click.Context, name: str, purge: bool, yes: bool, as_json: bool) -> int:
    """Remove an agent; its state is kept unless purged.

    An agent that is spawned again under the same name finds its notes, its login and its waiting messages.
    """
    if purge and not yes and not _confirmed(context, name):
        click.echo("nothing was changed", err=True)
        return 1
    client = Client(context.obj)
    answer = client.post(agent_path(name, "destroy"), {"purge": purge}, wait=STOP_SECONDS)
    if as_json:
        print_json(answer)
    elif answer.get("purged"):
        dropped = answer.get("dropped_messages")
        click.echo(f"{colours.agent(name)} is destroyed and purged; waiting messages dropped: {dropped}")
    else:
        click.echo(f"{colours.agent(name)} is destroyed; its files and waiting messages are kept")
    return 0


def _confirmed(context: click.Context, name: str) -> bool:
    if not can_ask():
        raise click.UsageError("--purge asks for confirmation, and there is no terminal: add --yes.", context)
    # Written by hand: click's prompt puts a space on stdout, where --json promises nothing else.
    sys.stderr.write(f"Remove {one_line(name)} with all of its files and waiting messages, for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
