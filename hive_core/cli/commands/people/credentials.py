"""The commands `operator sessions`, `tokens`, `make-token` and `revoke-all`: what people are signed in with."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import DURATION, complete_agents, json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.commands.people.people_arguments import ROLES, complete_people, confirm_or_yes
from hive_core.cli.output import Column, ago, moment, now, render, width
from hive_core.text import escaped_line

SESSIONS = (
    *(Column("ID", 4, right=True), Column("PERSON", 5), Column("FROM", 1)),
    *(Column("USED", 3), Column("BEGAN", 1), Column("ENDS", 2)),
)
TOKENS = (
    *(Column("ID", 4, right=True), Column("PERSON", 5), Column("TOKEN", 4), Column("ROLE", 2), Column("AGENTS", 1)),
    *(Column("USED", 3), Column("ENDS", 2)),
)
_revoke_option = click.option("--revoke", type=click.IntRange(min=1), metavar="ID", help="End this one, at once.")


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_people)
@_revoke_option
@json_option
@click.pass_obj
def sessions(socket: str | None, name: str | None, revoke: int | None, as_json: bool) -> None:
    """List the sessions of people, or of one, the one used last first; or end one.

    FROM is the address of the browser, as the dashboard says.

    \b
    Examples:
      hive-c0re operator sessions
      hive-c0re operator sessions bob
      hive-c0re operator sessions --revoke 12
    """
    client = Client(socket)
    if revoke is not None:
        _revoke(client, "sessions", revoke, name, as_json)
        return
    answer = client.get("/v1/sessions", {"person": name})
    if as_json:
        print_json(answer)
        return
    at = now()
    rows = [
        [
            str(each["id"]),
            escaped_line(str(each["person"])),
            escaped_line(str(each.get("address") or "unknown")),
            ago(each.get("used_at"), at),
            ago(each.get("began_at"), at),
            moment(each.get("ends_at")),
        ]
        for each in answer["sessions"]
    ]
    _show(SESSIONS, rows, "sessions", name)


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_people)
@_revoke_option
@json_option
@click.pass_obj
def tokens(socket: str | None, name: str | None, revoke: int | None, as_json: bool) -> None:
    """List the API tokens of people, or of one, the newest first; or end one.

    ROLE is what a token gives today: at most what its owner may. AGENTS are the only ones that it is for.

    \b
    Examples:
      hive-c0re operator tokens
      hive-c0re operator tokens --revoke 12
    """
    client = Client(socket)
    if revoke is not None:
        _revoke(client, "tokens", revoke, name, as_json)
        return
    answer = client.get("/v1/tokens", {"person": name})
    if as_json:
        print_json(answer)
        return
    at = now()
    rows = [
        [
            str(each["id"]),
            escaped_line(str(each["person"])),
            escaped_line(str(each["name"])),
            escaped_line(str(each["role"])),
            "all" if each.get("agents") is None else escaped_line(", ".join(map(str, each["agents"]))),
            ago(each.get("used_at"), at) or "never",
            moment(each.get("ends_at")),
        ]
        for each in answer["tokens"]
    ]
    _show(TOKENS, rows, "API tokens", name)


@click.command("make-token")
@click.argument("person", metavar="PERSON", shell_complete=complete_people)
@click.argument("name", metavar="TOKEN")
@click.option("--role", type=click.Choice(ROLES), help="What it may do: at most, and by default, what PERSON may.")
@click.option(
    "--agent", "agents", multiple=True, metavar="AGENT", shell_complete=complete_agents, help="Only for this agent."
)
@click.option("--for", "hours", type=DURATION, metavar="TIME", help="Time until it ends, such as 30d.")
@json_option
@click.pass_obj
def make_token(
    socket: str | None,
    person: str,
    name: str,
    role: str | None,
    agents: tuple[str, ...],
    hours: float | None,
    as_json: bool,
) -> None:
    """Make an API token for a script of a person's, and print it.

    TOKEN is a name by which it is found in lists. The token is shown only now. A script sends it with each request as
    the header "Authorization: Bearer ht_...", and acts as PERSON.

    \b
    Examples:
      hive-c0re operator make-token ada nightly --role viewer
      hive-c0re operator make-token ada deploy --agent web --agent db --for 30d
    """
    body: dict[str, Any] = {"person": person, "name": name}
    if role is not None:
        body["role"] = role
    if agents:
        body["agents"] = list(agents)
    if hours is not None:
        body["days"] = hours / 24
    answer = Client(socket).post("/v1/tokens", body)
    if as_json:
        print_json(answer)
        return
    said = f"the API token {escaped_line(name)} of {escaped_line(person)} ({answer['role']})"
    click.echo(f"{said} is good until {moment(answer['ends_at'])}; it is shown only now:", err=True)
    click.echo(escaped_line(str(answer["token"])))


@click.command("revoke-all")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_people)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_context
def revoke_all(context: click.Context, name: str | None, yes: bool, as_json: bool) -> None:
    """End all sessions, API tokens and set-up links, of a person or of all people.

    They end at once. Accounts and passwords stay, so that people can sign in again. Use it when a browser or a script
    was lost, and for all people when the dashboard may have been taken over: who had it may know passwords that were
    typed meanwhile, so have people choose others, too (hive-c0re operator passwd NAME).

    \b
    Examples:
      hive-c0re operator revoke-all bob
      hive-c0re operator revoke-all --yes
    """
    if name is None:
        confirm_or_yes(context, yes, "End all sessions and API tokens of all people?")
    answer = Client(context.obj).post("/v1/sessions/revoke-all", {"person": name or "*", "tokens": True})
    if as_json:
        print_json(answer)
        return
    ended = ", ".join(f"{answer[key]} {words}" for key, words in _COUNTED.items())
    click.echo(f"ended: {ended}")


_COUNTED = {"sessions": "sessions", "tokens": "API tokens", "links": "set-up links"}


def _revoke(client: Client, kind: str, number: int, name: str | None, as_json: bool) -> None:
    if name is not None:
        raise click.UsageError("--revoke takes an ID, and no NAME.")
    answer = client.post(f"/v1/{kind}/{number}/revoke", {})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{'session' if kind == 'sessions' else 'API token'} {number} has ended")


def _show(columns: tuple[Column, ...], rows: list[list[str]], what: str, name: str | None) -> None:
    if not rows:
        click.echo(f"there are no {what}{f' of {escaped_line(name)}' if name else ''}", err=True)
        return
    for line in render(columns, rows, width()):
        click.echo(line)
