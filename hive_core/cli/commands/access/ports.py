"""The command `port-forward`."""

from __future__ import annotations

import re

import click

from hive_core.cli.access import session
from hive_core.cli.access.forward import Forwarder, listen
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client
from hive_core.protocol.access.opening import Opening


@click.command("port-forward")
@agent_argument
@click.argument("ports", metavar="PORT[:LOCAL]")
@click.pass_obj
def port_forward(socket: str | None, name: str, ports: str) -> None:
    """Reach a port of an agent from this host.

    PORT is the agent's, LOCAL that of 127.0.0.1 on this host, the same one unless given; 0 chooses a free one. Every
    user and program of this host can connect there while the command runs. Ctrl-C ends it.

    \b
    Examples:
      hive-c0re port-forward ada 3000
      hive-c0re port-forward ada 3000:8080
    """
    found = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,5}))?", ports)
    inside, local = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < inside < 65_536 or not 0 <= local < 65_536:
        raise click.UsageError("The port must be a number from 1 to 65535, as PORT or PORT:LOCAL.")
    with listen(local) as listener:
        connection = session.open_session(Client(socket), name, Opening("forward", port=inside))
        with connection:
            # A name of its own: cookies of a browser are those of a name, whatever the port.
            click.echo(f"http://{name}.localhost:{listener.getsockname()[1]} is port {inside} of {name}")
            Forwarder(connection, listener, lambda why: click.echo(f"{name} says: {why}", err=True)).serve()
    raise session.broken_off(name)
