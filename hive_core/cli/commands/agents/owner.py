"""The command `owner`."""

from __future__ import annotations

import click

from hive_core.cli.arguments import agent_argument, json_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.output import coloured_agent
from hive_core.text import escaped_line


@click.command()
@agent_argument
@click.argument("person", required=False)
@click.option("--none", "nobody", is_flag=True, help="Make it everybody's.")
@click.option("--allow", "allowed", metavar="AGENT", help="Let it and this agent of another owner write to each other.")
@click.option("--forbid", "forbidden", metavar="AGENT", help="Let it and this agent write to each other no more.")
@json_option
@click.pass_obj
def owner(
    socket: str | None,
    name: str,
    person: str | None,
    nobody: bool,
    allowed: str | None,
    forbidden: str | None,
    as_json: bool,
) -> None:
    """Show or change the person to whom an agent belongs.

    Other people see nothing of an agent that has an owner, but for admins. Agents of different owners cannot write to
    each other unless both sides allow it; here --allow does it for both. A name stays its owner's when the agent is
    destroyed or purged. hm1nd belongs to the admins.

    \b
    Examples:
      hive-c0re owner ada
      hive-c0re owner ada anna
      hive-c0re owner ada --none
      hive-c0re owner ada --allow bob
    """
    if person is not None and nobody:
        raise click.UsageError("give either a PERSON or --none")
    client = Client(socket)
    answer = None
    if person is not None or nobody:
        answer = client.post(agent_path(name, "owner"), {"owner": person})
    for other, wanted in ((allowed, True), (forbidden, False)):
        if other is not None:
            answer = client.post(agent_path(name, "contacts"), {"agent": other, "allowed": wanted})
    if answer is None:
        answer = client.get(agent_path(name, "owner"))
    if as_json:
        print_json(answer)
        return
    whose = escaped_line(str(answer.get("owner") or "everybody"))
    contacts = ", ".join(escaped_line(str(each)) for each in answer.get("contacts") or [])
    with_whom = f"; allowed to write with {contacts}" if contacts else ""
    click.echo(f"{coloured_agent(name)} belongs to {whose}{with_whom}")
