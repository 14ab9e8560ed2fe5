"""The command `queue`: the messages that wait for an agent."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from hive_core.cli.arguments import agent_argument, ask_for_completion, json_option, pager_option, print_json, read_body
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import SuggestingGroup
from hive_core.cli.output import Column, coloured_agent, moment, page, render, width
from hive_core.text import escaped_first_line, escaped_line

COLUMNS = (
    Column("ID", 9, right=True),
    Column("FROM", 8, style=coloured_agent),
    Column("AT", 4),
    Column("STATE", 6),
    Column("TEXT", 7),
)


def complete_waiting(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the id of a message that waits for the agent of the command."""
    answer = ask_for_completion(ctx, lambda client: client.get(agent_path(_agent(ctx), "queue")))
    found = [(str(each["id"]), f"{each['sender']}: {each['body'][:40]}") for each in answer.get("messages", [])]
    return [CompletionItem(number, help=escaped_line(text)) for number, text in found if number.startswith(incomplete)]


message_argument = click.argument("message", type=click.IntRange(min=1), metavar="ID", shell_complete=complete_waiting)


@click.group(cls=SuggestingGroup, invoke_without_command=True)
@agent_argument
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Messages to show.")
@pager_option
@json_option
@click.pass_context
def queue(context: click.Context, name: str, limit: int, pager: bool, as_json: bool) -> None:
    """Show and change the messages that wait.

    Without a command they are shown, the next one first. A message that is "in its turn" cannot be changed. An agent
    whose message is removed or edited is told of it.

    \b
    Examples:
      hive-c0re queue ada
      hive-c0re queue ada remove 41 --note "done already"
      hive-c0re queue ada edit 41
      hive-c0re queue ada move 41 --before 38
    """
    if context.invoked_subcommand is not None:
        return
    answer = Client(context.obj).get(agent_path(name, "queue"), {"limit": limit})
    if as_json:
        print_json(answer)
        return
    messages: list[dict[str, Any]] = answer.get("messages", [])
    if not messages:
        click.echo(f"no messages wait for {name}", err=True)
        return
    rows = [
        [
            escaped_line(str(each.get("id"))),
            escaped_line(str(each.get("sender"))),
            moment(each.get("sent_at")),
            "in its turn" if each.get("leased") else "waits",
            escaped_first_line(str(each.get("body"))),
        ]
        for each in messages
    ]
    page(render(COLUMNS, rows, width()), pager)
    if (more := int(answer.get("total", 0)) - len(messages)) > 0:
        click.echo(f"more, later messages: {more}", err=True)


def _agent(context: click.Context) -> str:
    assert context.parent is not None
    return str(context.parent.params["name"])


def _change(context: click.Context, message: int, what: str, body: dict[str, object], as_json: bool) -> None:
    name = _agent(context)
    answer = Client(context.obj).post(agent_path(name, f"queue/{message}/{what}"), body)
    if as_json:
        print_json(answer)
        return
    done = {"remove": "is removed", "edit": "is edited", "move": "is moved"}[what]
    click.echo(f"message {message} to {coloured_agent(name)} {done}")


@queue.command("remove")
@message_argument
@click.option("--note", metavar="TEXT", default="", help="Reason, which an agent that sent the message is told.")
@json_option
@click.pass_context
def remove(context: click.Context, message: int, note: str, as_json: bool) -> None:
    """Take a waiting message out of an agent's queue.

    \b
    Examples:
      hive-c0re queue ada remove 41
      hive-c0re queue ada remove 41 --note "done already"
    """
    _change(context, message, "remove", {"reason": note}, as_json)


@queue.command("move")
@message_argument
@click.option("--before", type=click.IntRange(min=1), metavar="ID", help="Move it before this message.")
@click.option("--last", is_flag=True, help="Move it to the end.")
@json_option
@click.pass_context
def move(context: click.Context, message: int, before: int | None, last: bool, as_json: bool) -> None:
    """Move a waiting message of an agent's queue.

    It passes only messages that were never handed out, and an agent's keep their order.

    \b
    Examples:
      hive-c0re queue ada move 41 --before 38
      hive-c0re queue ada move 41 --last
    """
    if (before is None) == (not last):
        raise click.UsageError("Give either --before ID or --last.")
    _change(context, message, "move", {"before": before}, as_json)


@queue.command("edit")
@message_argument
@click.argument("text", required=False)
@json_option
@click.pass_context
def edit(context: click.Context, message: int, text: str | None, as_json: bool) -> None:
    """Replace the text of a message that waits for an agent.

    Without TEXT your editor opens with the present text; TEXT of "-" is read from stdin.

    \b
    Examples:
      hive-c0re queue ada edit 41
      hive-c0re queue ada edit 41 "only the tests"
    """
    if text is None:
        name = _agent(context)
        found = Client(context.obj).get(agent_path(name, "queue"), {"limit": 200}).get("messages", [])
        present = next((each for each in found if each.get("id") == message), None)
        if present is None:
            raise Failure("unknown_message", f"message {message} is not among those that wait for {name}")
        if present.get("characters", 0) > len(str(present.get("body"))):
            raise Failure("body_too_large", f"message {message} is too long to be edited", hint="give the new TEXT")
        edited = click.edit(str(present.get("body")))
        if edited is None or edited.rstrip("\n") == str(present.get("body")).rstrip("\n"):
            click.echo("nothing was changed", err=True)
            return
        body = edited.rstrip("\n")
    else:
        body = read_body(text)
    _change(context, message, "edit", {"body": body}, as_json)
