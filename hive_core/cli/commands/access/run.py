"""The commands `shell` and `exec`."""

from __future__ import annotations

import os

import click

from hive_core.cli.access.run import run
from hive_core.cli.access.terminal import terminal_of
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client
from hive_core.protocol.access.opening import Opening

directory_option = click.option(
    "--directory", metavar="PATH", default="", help="Directory in the agent; without it, that of its code."
)
variable_option = click.option("--env", "-e", "variables", metavar="NAME=VALUE", multiple=True, help="Set a variable.")


@click.command()
@agent_argument
@directory_option
@variable_option
@click.pass_obj
def shell(socket: str | None, name: str, directory: str, variables: tuple[str, ...]) -> int:
    """Open a shell in an agent, as its root user.

    The agent goes on with its work. "~." at the beginning of a line ends the session, as in ssh. What the shell shows
    is written by the agent and reaches your terminal as it is.

    \b
    Examples:
      hive-c0re shell ada
      hive-c0re shell ada --directory /state
    """
    if not (os.isatty(0) and os.isatty(1)):
        raise click.UsageError(f"A shell needs a terminal: use 'hive-c0re exec {name} -i -- sh' without one.")
    opening = Opening("run", terminal=terminal_of(0), directory=directory, environment=_parsed(variables))
    return run(Client(socket), name, opening, stdin=True)


@click.command("exec", context_settings={"ignore_unknown_options": False})
@agent_argument
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--interactive", "-i", is_flag=True, help="Pass stdin on to the command.")
@click.option("--tty", "-t", is_flag=True, help="Give the command a terminal; needs one here.")
@directory_option
@variable_option
@click.pass_obj
def execute(
    socket: str | None,
    name: str,
    argv: tuple[str, ...],
    interactive: bool,
    tty: bool,
    directory: str,
    variables: tuple[str, ...],
) -> int:
    """Run a command in an agent, as its root user.

    The exit code is that of the command: 128 and the signal's number if a signal ended it, 127 if there is no such
    program, 126 if it cannot be executed. Ctrl-C and other signals are passed on; a second one ends the session. Output
    is passed on byte by byte.

    \b
    Examples:
      hive-c0re exec ada -- git status
      hive-c0re exec ada -it -- python3
    """
    if tty and not os.isatty(0):
        raise click.UsageError("--tty needs a terminal as stdin: leave it out.")
    opening = Opening(
        "run",
        argv=argv,
        terminal=terminal_of(0) if tty else None,
        directory=directory,
        environment=_parsed(variables),
    )
    return run(Client(socket), name, opening, stdin=interactive or tty)


def _parsed(variables: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals:
            raise click.UsageError(f"--env needs NAME=VALUE, not {variable!r}.")
        found[name] = value
    return found
