"""The commands `questions`, `answer` and `reminders`."""

from __future__ import annotations

from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli.arguments import complete_agents, json_option, print_json, read_body
from hive_core.cli.client import Client
from hive_core.cli.output import Column, ago, coloured_agent, dim, moment, now, render, width
from hive_core.text import escaped_first_line, escaped_line, visible


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show answered and expired questions too.")
@click.option("--agent", metavar="AGENT", shell_complete=complete_agents, help="Show only questions of this agent.")
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Number of questions to show.")
@json_option
@click.pass_obj
def questions(socket: str | None, everything: bool, agent: str | None, limit: int, as_json: bool) -> None:
    """Show the agents' open questions to you.

    The oldest comes first. Answer with "hive-c0re answer".

    \b
    Examples:
      hive-c0re questions
      hive-c0re questions --all --agent ada
    """
    view = "all" if everything else "open"
    answer = Client(socket).get("/v1/questions", {"view": view, "agent": agent, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found: list[dict[str, Any]] = answer.get("questions", [])
    at = now()
    if found:
        click.echo("\n\n".join(_shown(question, at) for question in found))
    else:
        click.echo("no questions" if everything else "no open questions", err=True)
    more = int(answer.get("total", 0)) - len(found)
    if found and more > 0:
        click.echo(f"more, {'older' if everything else 'newer'} questions: {more}", err=True)


def _shown(question: dict[str, Any], at: datetime) -> str:
    state = escaped_line(str(question.get("state")))
    head = [
        coloured_agent(escaped_line(str(question.get("agent")))),
        dim(f"#{question.get('id')}"),
        dim(ago(question.get("asked_at"), at)),
    ]
    if state != "open":
        head.append(dim(state))
    elif question.get("expires_at"):
        head.append(dim(f"ends {moment(question['expires_at'])}"))
    lines = [visible(str(question.get("text")))]
    for number, option in enumerate(question.get("options", []), start=1):
        lines.append(f"{number}. {escaped_line(str(option))}")
    if state == "answered":
        by = dim(f"{escaped_line(str(question.get('answered_by')))}:")
        lines.append(f"{by} {visible(str(question.get('answer')))}")
    return "  ".join(head) + "\n" + indent("\n".join(lines), "  ")


@click.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@click.argument("text", required=False)
@click.option("--option", type=click.IntRange(min=1), metavar="N", help="Choose an option; 1 is the first.")
@json_option
@click.pass_obj
def answer(socket: str | None, number: int, text: str | None, option: int | None, as_json: bool) -> None:
    """Answer an agent's question.

    TEXT, or the chosen option, is sent to the agent as a message. "hive-c0re questions" shows the ID. TEXT of "-" is
    read from stdin, without its last newline.

    \b
    Examples:
      hive-c0re answer 7 "the second one"
      hive-c0re answer 7 --option 2
    """
    if (text is None) == (option is None):
        raise click.UsageError("Give either TEXT or --option N.")
    body = {"option": option} if text is None else {"text": _answer(text)}
    given = Client(socket).post(f"/v1/questions/{number}/answer", body)
    if as_json:
        print_json(given)
        return
    # The text of the question may imitate options, so the chosen option is shown.
    chosen = f": {escaped_line(str(given.get('answer')))}" if option is not None else ""
    click.echo(f"question {number} of {coloured_agent(escaped_line(str(given.get('agent'))))} is answered{chosen}")


def _answer(text: str) -> str:
    return read_body(text).removesuffix("\n") if text == "-" else text


COLUMNS = (
    Column("AGENT", 9, style=coloured_agent),
    Column("NUMBER", 5, right=True),
    Column("AT", 8),
    Column("TEXT", 7),
)


@click.command()
@click.argument("agent", required=False, metavar="[AGENT]", shell_complete=complete_agents)
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Number of reminders to show.")
@json_option
@click.pass_obj
def reminders(socket: str | None, agent: str | None, limit: int, as_json: bool) -> None:
    """Show the agents' pending reminders.

    Shows those of one agent or of all, the next one first.

    \b
    Examples:
      hive-c0re reminders
      hive-c0re reminders ada
    """
    answer = Client(socket).get("/v1/reminders", {"agent": agent, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found = answer.get("reminders", [])
    if not found:
        click.echo("no pending reminders", err=True)
        return
    rows = [
        [
            escaped_line(str(reminder.get("agent"))),
            escaped_line(str(reminder.get("id"))),
            moment(reminder.get("at")),
            escaped_first_line(str(reminder.get("text", ""))),
        ]
        for reminder in found
    ]
    click.echo("\n".join(render(COLUMNS, rows, width())))
    more = int(answer.get("total", 0)) - len(found)
    if more > 0:
        click.echo(f"more, later reminders: {more}", err=True)
