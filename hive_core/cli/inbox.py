"""`hive-c0re inbox`: the messages to the operator."""

from __future__ import annotations

from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.times import ago, now
from hive_core.cli.untrusted import one_line, visible


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show messages that were read, too.")
@click.option("--keep", is_flag=True, help="Leave unread messages unread.")
@click.option("-n", "--limit", type=int, default=50, show_default=True, help="Most messages to show, the newest.")
@click.option("--before", type=int, metavar="ID", help="Show messages older than this one.")
@json_option
@click.pass_obj
def inbox(socket: str | None, everything: bool, keep: bool, limit: int, before: int | None, as_json: bool) -> None:
    """Show the unread messages to you, and mark them read.

    They are marked after they were printed: if printing fails, they stay unread.
    """
    client = Client(socket)
    view = "all" if everything else "unread"
    answer = client.get("/v1/messages", {"view": view, "limit": limit, "before": before})
    messages: list[dict[str, Any]] = answer.get("messages", [])
    if as_json:
        print_json(answer)
    else:
        moment = now()
        click.echo("\n\n".join(_shown(message, moment) for message in messages), nl=bool(messages))
    marked = 0
    if messages and not keep:
        marked = len(client.post("/v1/messages/read", {"ids": [message["id"] for message in messages]}).get("ids", []))
    if not as_json:
        shown_unread = marked if everything else len(messages)
        _tell_rest(bool(messages), 0 if everything and keep else int(answer.get("unread", 0)) - shown_unread)


def _shown(message: dict[str, Any], moment: datetime) -> str:
    sender = one_line(str(message.get("sender")))
    head = [
        colours.agent(sender),
        colours.dim(f"#{message.get('id')}"),
        colours.dim(ago(message.get("sent_at"), moment)),
    ]
    if message.get("reply_to") is not None:
        head.append(colours.dim(f"answers #{message['reply_to']}"))
    return "  ".join(head) + "\n" + indent(visible(str(message.get("body"))), "  ")


def _tell_rest(any_shown: bool, more_unread: int) -> None:
    """On stderr, what stdout does not show: that there is nothing, or that there is more."""
    if not any_shown:
        click.echo("no messages to show", err=True)
    if more_unread > 0:
        click.echo(f"unread messages beside these: {more_unread}", err=True)
