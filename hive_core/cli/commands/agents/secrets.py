"""The commands `secret list`, `set` and `remove`."""

from __future__ import annotations

import base64
import sys
from typing import Any

import click

from hive_core.cli.arguments import agent_argument, complete_secrets, json_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, ago, now, render, width
from hive_core.text import escaped_line

COMMANDS = {
    "list": Lazy("hive_core.cli.commands.agents.secrets:list_secrets", "List an agent's secrets, without values."),
    "set": Lazy("hive_core.cli.commands.agents.secrets:set_secret", "Give an agent a secret, read from stdin."),
    "remove": Lazy("hive_core.cli.commands.agents.secrets:remove_secret", "Take a secret away from an agent at once."),
}
COLUMNS = (Column("SECRET", 3), Column("CHANGED", 2), Column("IN TURNS", 2), Column("PROBLEM", 1))
_MOST_BYTES = 64 * 1024


@click.group(cls=LazyGroup, lazy=COMMANDS, options_metavar="", subcommand_metavar="COMMAND [ARGS]...")
def secret() -> None:
    """Give secrets to agents, list them, and take them away."""


@click.command("list")
@agent_argument
@json_option
@click.pass_obj
def list_secrets(socket: str | None, name: str, as_json: bool) -> None:
    """List an agent's secrets, without values.

    IN TURNS says whether agent.toml names the secret, so that the agent's turns get it as a variable; every secret is
    also a file in /run/hive/secrets of the agent. PROBLEM says why the agent does not see it.

    \b
    Example:
      hive-c0re secret list ada
    """
    answer = Client(socket).get(agent_path(name, "secrets"))
    if as_json:
        print_json(answer)
        return
    secrets: list[dict[str, Any]] = answer["secrets"]
    if not secrets:
        click.echo(f'{name} has no secrets: give it one with "hive-c0re secret set {name} NAME"', err=True)
    moment = now()
    rows = [
        [
            escaped_line(str(each["name"])),
            ago(each.get("changed_at"), moment),
            "yes" if each["name"] in answer["in_turns"] else "no",
            escaped_line(str(each.get("problem") or "")),
        ]
        for each in secrets
    ]
    for line in render(COLUMNS, rows, width()) if rows else ():
        click.echo(line)
    if missing := [one for one in answer["in_turns"] if one not in {each["name"] for each in secrets}]:
        asked = ", ".join(escaped_line(str(one)) for one in missing)
        click.echo(f"agent.toml asks for {asked}, which {name} does not have", err=True)


@click.command("set")
@agent_argument
@click.argument("secret_name", metavar="SECRET", shell_complete=complete_secrets)
@json_option
@click.pass_obj
def set_secret(socket: str | None, name: str, secret_name: str, as_json: bool) -> None:
    """Give an agent a secret, or another value for one that it has.

    The value is read from stdin, and on a terminal without being shown; it is never an argument, because every user of
    the machine can read these. A value of one line loses the newline at its end. The agent sees it at once as the file
    /run/hive/secrets/SECRET, and its next turn as the variable SECRET, if agent.toml names it: secrets = ["SECRET"].
    An agent can misuse what it is given, and a text that it reads can make it do so.

    \b
    hive-c0re secret set ada NPM_TOKEN < token

    \b
    Examples:
      hive-c0re secret set ada NPM_TOKEN < token
      hive-c0re secret set ada NPM_TOKEN
    """
    value = base64.b64encode(_read_value(f"{secret_name} for {name}")).decode()
    client = Client(socket)
    answer = client.post(agent_path(name, "secrets"), {"name": secret_name, "value": value})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{name} has {escaped_line(secret_name)}")
    if secret_name not in client.get(agent_path(name, "secrets"))["in_turns"]:
        where = f"/run/hive/secrets/{escaped_line(secret_name)}"
        click.echo(f'it is a file there, {where}; "secrets" in its agent.toml makes it a variable, too', err=True)


@click.command("remove")
@agent_argument
@click.argument("secret_name", metavar="SECRET", shell_complete=complete_secrets)
@json_option
@click.pass_obj
def remove_secret(socket: str | None, name: str, secret_name: str, as_json: bool) -> None:
    """Take a secret away from an agent at once.

    A turn that runs may have it still, and the agent may have kept or sent a copy: also make it invalid where it is
    from.

    \b
    Example:
      hive-c0re secret remove ada NPM_TOKEN
    """
    answer = Client(socket).post(agent_path(name, "secrets/remove"), {"name": secret_name})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{name} has {escaped_line(secret_name)} no more; make it invalid where it is from, too")


def _read_value(what: str) -> bytes:
    """Return the value from stdin, or from the terminal without echo."""
    if sys.stdin.isatty():
        from getpass import getpass  # noqa: PLC0415 - only on a terminal

        value = getpass(f"{escaped_line(what)} (not shown): ").encode(errors="surrogateescape")
    else:
        value = sys.stdin.buffer.read(_MOST_BYTES + 2)
        if value.count(b"\n") == 1 and value.endswith(b"\n"):
            value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise Failure("no_value", "the value is empty", hint="write it to stdin: hive-c0re secret set ada NAME < file")
    if len(value) > _MOST_BYTES:
        raise Failure("secret_too_large", "a secret has at most 64 KiB", hint="give the agent a file in another way")
    return value
