"""The commands `operator`: the accounts of people, and the links by which they choose their passwords."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.commands.people.people_arguments import (
    ROLES,
    complete_people,
    confirm_or_yes,
    in_minutes,
    person_path,
)
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, ago, now, render, width
from hive_core.text import escaped_line

_HERE = "hive_core.cli.commands.people.accounts"
_CREDENTIALS = "hive_core.cli.commands.people.credentials"
COMMANDS = {
    "list": Lazy(f"{_HERE}:list_people", "List the accounts."),
    "setup": Lazy(f"{_HERE}:setup", "Print a link with which an admin signs in for the first time, or again."),
    "add": Lazy(f"{_HERE}:add", "Make an account, and print its set-up link."),
    "passwd": Lazy(f"{_HERE}:passwd", "Print a link to choose another password."),
    "role": Lazy(f"{_HERE}:role", "Give a person another role."),
    "remove": Lazy(f"{_HERE}:remove", "Remove an account."),
    "sessions": Lazy(f"{_CREDENTIALS}:sessions", "List the sessions of people, or end one."),
    "tokens": Lazy(f"{_CREDENTIALS}:tokens", "List API tokens, or end one."),
    "make-token": Lazy(f"{_CREDENTIALS}:make_token", "Make an API token for a script, and print it."),
    "revoke-all": Lazy(f"{_CREDENTIALS}:revoke_all", "End all sessions, API tokens and set-up links."),
}
COLUMNS = (
    *(Column("NAME", 5), Column("ROLE", 4), Column("SIGNED IN", 3)),
    *(Column("SESSIONS", 2, right=True), Column("TOKENS", 1, right=True), Column("STATE", 3)),
)


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def operator() -> None:
    """Manage the accounts of people, who use the hive through the dashboard.

    Whoever may use this command is the operator and needs no account. Without a command it lists the accounts.
    """


@click.command("list")
@json_option
@click.pass_obj
def list_people(socket: str | None, as_json: bool) -> None:
    """List the accounts.

    SIGNED IN is when the person signed in last. STATE says whether the account is ready; until its set-up link is used,
    nobody can sign in with it.

    \b
    Example:
      hive-c0re operator list
    """
    answer = Client(socket).get("/v1/people")
    if as_json:
        print_json(answer)
        return
    people: list[dict[str, Any]] = answer["people"]
    if not people:
        click.echo('there are no accounts: "hive-c0re operator setup" prints the link for the first admin', err=True)
        return
    moment = now()
    rows = [
        [
            escaped_line(str(each["name"])),
            escaped_line(str(each["role"])),
            ago(each.get("signed_in_at"), moment) or "never",
            str(each.get("sessions", 0)),
            str(each.get("tokens", 0)),
            _state(each),
        ]
        for each in people
    ]
    for line in render(COLUMNS, rows, width()):
        click.echo(line)


def _state(account: dict[str, Any]) -> str:
    if account.get("linked"):
        return "has a link to choose a password"
    return "ready" if account.get("ready") else "has no password: make a link with operator passwd"


@click.command()
@click.option("--name", metavar="NAME", help="The admin's name; an account is made if there is none of it.")
@json_option
@click.pass_obj
def setup(socket: str | None, name: str | None, as_json: bool) -> None:
    """Print a link with which an admin signs in for the first time, or again.

    The link is good once and for 15 minutes. Whoever opens it chooses a password and is signed in. Without --name it is
    for the only admin; while there is none, the person chooses a name. When the link is used for an account that there
    is, its password is another one and its sessions end.

    \b
    Examples:
      hive-c0re operator setup
      hive-c0re operator setup --name ada
    """
    answer = Client(socket).post("/v1/set-up-links", {} if name is None else {"name": name})
    _show_link(answer, as_json)


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), default="operator", show_default=True, help="What they may do.")
@json_option
@click.pass_obj
def add(socket: str | None, name: str, role: str, as_json: bool) -> None:
    """Make an account, and print its set-up link.

    A viewer sees, an operator also acts and decides, an admin also sees what belongs to others and manages the hive.
    Give the link to the person over a way that others cannot read: it is good once and for 15 minutes.

    \b
    Example:
      hive-c0re operator add bob --role viewer
    """
    _show_link(Client(socket).post("/v1/people", {"name": name, "role": role}), as_json)


@click.command()
@click.argument("name", metavar="NAME", shell_complete=complete_people)
@json_option
@click.pass_obj
def passwd(socket: str | None, name: str, as_json: bool) -> None:
    """Print a link to choose another password.

    The link is good once and for 15 minutes. When it is used, all sessions of the person end; API tokens stay until
    they are revoked. Until then the old password is good. An earlier link is good no more.

    \b
    Example:
      hive-c0re operator passwd bob
    """
    _show_link(Client(socket).post(person_path(name, "link"), {}), as_json)


@click.command()
@click.argument("name", metavar="NAME", shell_complete=complete_people)
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@json_option
@click.pass_obj
def role(socket: str | None, name: str, role: str, as_json: bool) -> None:
    """Give a person another role: viewer, operator or admin.

    Sessions and API tokens have it at once, and live views of the person begin anew.

    \b
    Example:
      hive-c0re operator role bob admin
    """
    answer = Client(socket).post(person_path(name, "role"), {"role": role})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{name} is {role} now")


@click.command()
@click.argument("name", metavar="NAME", shell_complete=complete_people)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_context
def remove(context: click.Context, name: str, yes: bool, as_json: bool) -> None:
    """Remove an account.

    The person's sessions, API tokens and links end at once. Agents of the person belong to the admins then, until they
    are given to somebody else (hive-c0re owner). What the person has done stays in the audit log.

    \b
    Example:
      hive-c0re operator remove bob --yes
    """
    confirm_or_yes(context, yes, f"Remove the account {escaped_line(name)}?")
    answer = Client(context.obj).post(person_path(name, "remove"), {})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{name} has no account any more")


def _show_link(answer: dict[str, Any], as_json: bool) -> None:
    """Print the link alone on stdout, and what it is for on stderr."""
    if as_json:
        print_json(answer)
        return
    whom = answer.get("name")
    who = f"{escaped_line(str(whom))} ({answer['role']})" if whom else "a new admin, who chooses a name"
    click.echo(f"this link is for {who}; it is good once and for {in_minutes(answer['ends_at'])}:", err=True)
    click.echo(escaped_line(str(answer["url"])))
