"""The command `transcript`."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import agent_argument, complete_turns, json_option, pager_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.steering.turn_view import Level, entries_of, entry_lines, follow_agent, turn_line
from hive_core.cli.errors import Failure
from hive_core.cli.output import moment_of, page, width

_PER_REQUEST = 500
_MOST_PAGES = 20

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show only messages and what the model says.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show results of tools and use of tokens too.")


def level_of(quiet: bool, verbose: bool) -> Level:
    """Return how much is shown. Raises UsageError for both options."""
    if quiet and verbose:
        raise click.UsageError("Give either --quiet or --verbose.")
    return "quiet" if quiet else "verbose" if verbose else "normal"


@click.command()
@agent_argument
@click.option(
    "--turn",
    type=click.IntRange(min=0),
    metavar="N",
    shell_complete=complete_turns,
    help="Show this turn instead of the last one.",
)
@click.option("--list", "listing", is_flag=True, help="List the last turns instead.")
@click.option("-f", "--follow", is_flag=True, help="Show what happens from now on too, until Ctrl-C.")
@quiet_option
@verbose_option
@pager_option
@json_option
@click.pass_obj
def transcript(
    socket: str | None,
    name: str,
    turn: int | None,
    listing: bool,
    follow: bool,
    quiet: bool,
    verbose: bool,
    pager: bool,
    as_json: bool,
) -> None:
    """Show a turn: what the model said and did.

    The harness tells it, so all of it is the agent's word. A tool call is one line ("> NAME INPUT").

    \b
    Examples:
      hive-c0re transcript ada
      hive-c0re transcript ada -f
      hive-c0re transcript ada --list
      hive-c0re transcript ada --turn 12 -v
    """
    level = level_of(quiet, verbose)
    client = Client(socket)
    if follow:
        if turn is not None or listing:
            raise click.UsageError("--follow shows what happens now: leave --turn and --list out.")
        for happening in follow_agent(client, name, lambda text: click.echo(text, err=True)):
            for entry in entries_of(happening):
                print_json(entry) if as_json else _echo(entry_lines(entry, level, width()))
        return
    if listing:
        turns: dict[str, Any] = client.get(agent_path(name, "control/turns"), {"limit": 50})
        if as_json:
            print_json(turns)
        else:
            found = turns.get("turns", [])
            page([f"{moment_of(each.get('started_at'))}  {turn_line(each)}" for each in found] or ["no turns"], pager)
        return
    number = turn if turn is not None else _last_turn(client, name)
    entries = [] if number is None else _entries(client, name, number)
    if not entries and turn is not None:
        raise Failure("no_turn", f"nothing is stored of turn {turn}", hint=f'see "hive-c0re transcript {name} --list"')
    if as_json:
        print_json({"turn": number, "entries": entries})
        return
    if not entries:
        click.echo("no turns yet" if number is None else f"nothing is stored of turn {number}", err=True)
        return
    page([line for entry in entries for line in entry_lines(entry, level, width())], pager)


def _echo(lines: list[str]) -> None:
    if lines:
        click.echo("\n".join(lines))


def _last_turn(client: Client, name: str) -> int | None:
    found = client.get(agent_path(name, "control/turns"), {"limit": 1}).get("turns", [])
    return int(found[0]["id"]) if found else None


def _entries(client: Client, name: str, turn: int) -> list[dict[str, Any]]:
    """Return the newest entries of a turn, up to 10,000."""
    entries: list[dict[str, Any]] = []
    before: str | None = None
    for _ in range(_MOST_PAGES):
        query = {"turn": turn, "before": before, "limit": _PER_REQUEST}
        answer = client.get(agent_path(name, "control/transcript"), query)
        found: list[dict[str, Any]] = answer.get("entries", [])
        entries[:0] = found
        if not answer.get("more") or not found:
            break
        before = f"{found[0].get('attempt')}.{found[0].get('n')}"
    return entries
