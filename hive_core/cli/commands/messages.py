"""`hive-c0re send`: put a message into an agent's inbox."""

from __future__ import annotations

import click

from hive_core.cli import colours
from hive_core.cli.arguments import recipient_argument
from hive_core.cli.body import body_argument, read_body
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line


@click.command()
@recipient_argument
@body_argument
@click.option("--reply-to", type=int, metavar="ID", help="The message that this one answers.")
@click.option("--key", metavar="KEY", help="Idempotency key: sent again with the same key, it is stored once.")
@json_option
@click.pass_obj
def send(socket: str | None, to: str, body: str, reply_to: int | None, key: str | None, as_json: bool) -> None:
    """Send a message to an agent, or to all with '*'.

    The manager is hm1nd. BODY of "-" is read from stdin. When the command ends with 0, the message is on disk.
    """
    request: dict[str, object] = {"to": to, "body": read_body(body)}
    if reply_to is not None:
        request["reply_to"] = reply_to
    if key is not None:
        request["idempotency_key"] = key
    answer = Client(socket).post("/v1/messages", request)
    if as_json:
        print_json(answer)
        return
    recipients = ", ".join(colours.agent(one_line(str(name))) for name in answer.get("recipients", []))
    again = " (it was stored before)" if answer.get("duplicate") else ""
    click.echo(f"message {answer.get('id')} → {recipients or 'nobody'}{again}")
