"""The command `programs`."""

from __future__ import annotations

import click

from hive_core.cli.access.run import run
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client
from hive_core.protocol.access.opening import Opening

_ACTIONS = ("ps", "logs", "stop", "run")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@agent_argument
@click.argument("words", metavar="[ps|logs|stop|run] [ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def programs(socket: str | None, name: str, words: tuple[str, ...]) -> int:
    """List an agent's long-running programs, show their output or stop them.

    Agents start them with "hive-ag3nt run", and they stay when a turn ends. The words after the agent's name are those
    of hive-ag3nt: "programs ada logs web -f", "programs ada stop web". "port-forward" reaches the ports in the list.
    What the agent says is escaped; "exec ada -- hive-ag3nt logs web" shows the output as it is.

    \b
    Examples:
      hive-c0re programs ada
      hive-c0re programs ada logs web
      hive-c0re programs ada stop web
    """
    action = words[0] if words else "ps"
    if action not in _ACTIONS:
        raise click.UsageError(f"{action!r} is none of {', '.join(_ACTIONS)}.")
    opening = Opening("run", argv=("hive-ag3nt", *(words or ("ps",))))
    return run(Client(socket), name, opening, stdin=False, escaped=True)
