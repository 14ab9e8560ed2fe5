"""`hive-c0re open`: the link to an agent's page."""

from __future__ import annotations

import click

from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line


@click.command("open")
@agent_argument
@json_option
@click.pass_obj
def open_page(socket: str | None, name: str, as_json: bool) -> None:
    """Print a link to an agent's page.

    It lets one browser in, once, within two minutes; whoever has it is you to that agent. The page listens on this
    machine only. On stderr stands how to reach it from elsewhere, and if the agent's network is sealed.
    """
    client = Client(socket)
    agent = client.get(agent_path(name))
    ticket = client.post(agent_path(name, "page-tickets"), {})
    port, place = int(ticket.get("port", 0)), one_line(str(ticket.get("socket")))
    if not ticket.get("sealed") and not ticket.get("held", True):
        # Whoever has the port would get the ticket: it is not shown.
        message = f"another program listens on port {port}, where the page of {name} is to be"
        hint = f'have it use another port, or, if that is an old harness of {name}, "hive-c0re restart {name}"'
        raise Failure("page_port_taken", message, hint=hint)
    if as_json:
        print_json(ticket)
        return
    if agent.get("lifecycle") != "running":
        lifecycle = one_line(str(agent.get("lifecycle")))
        click.echo(f'{name} is {lifecycle}, so nobody serves its page: "hive-c0re start {name}"', err=True)
    if ticket.get("sealed"):
        click.echo("Its network is sealed, so its page has no port. Make it reachable first:", err=True)
        click.echo(f"  socat TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork UNIX-CONNECT:{place}", err=True)
    click.echo(f"From another machine, first: ssh -L {port}:127.0.0.1:{port} HOST", err=True)
    click.echo(f"Good for one browser, within {float(ticket.get('expires_in', 0)):.0f} s:", err=True)
    click.echo(f"http://127.0.0.1:{port}/enter#{one_line(str(ticket.get('ticket')))}")
