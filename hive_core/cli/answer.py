"""`hive-c0re answer`: answer a question of an agent."""

from __future__ import annotations

import click

from hive_core.cli import colours
from hive_core.cli.body import read_body
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line


@click.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@click.argument("text", required=False)
@click.option("--option", type=click.IntRange(min=1), metavar="N", help="Choose an option; 1 is the first.")
@json_option
@click.pass_obj
def answer(socket: str | None, number: int, text: str | None, option: int | None, as_json: bool) -> None:
    """Answer a question of an agent.

    TEXT, or the option that is chosen, goes to the agent as a message. ID is in "hive-c0re questions". TEXT of "-" is
    read from stdin, without its last newline: an option is one line.
    """
    if (text is None) == (option is None):
        raise click.UsageError("give either TEXT or --option N")
    body = {"option": option} if text is None else {"text": _answer(text)}
    given = Client(socket).post(f"/v1/questions/{number}/answer", body)
    if as_json:
        print_json(given)
        return
    # What an option says was listed beside a text that may have lines just like it.
    chosen = f": {one_line(str(given.get('answer')))}" if option is not None else ""
    click.echo(f"question {number} of {colours.agent(one_line(str(given.get('agent'))))} is answered{chosen}")


def _answer(text: str) -> str:
    return read_body(text).removesuffix("\n") if text == "-" else text
