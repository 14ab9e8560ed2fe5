"""The commands `send`, `ask` and `inbox`."""

from __future__ import annotations

import time
from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli.arguments import body_argument, json_option, print_json, read_body, recipient_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import AskTimedOut, Failure
from hive_core.cli.output import ago, coloured_agent, dim, now
from hive_core.text import escaped_line, visible


@click.command()
@recipient_argument
@body_argument
@click.option("--reply-to", type=int, metavar="ID", help="The message that this one answers.")
@click.option(
    "--key", "idempotency_key", metavar="KEY", help="Idempotency key: messages with the same key are stored once."
)
@json_option
@click.pass_obj
def send(
    socket: str | None, to: str, body: str, reply_to: int | None, idempotency_key: str | None, as_json: bool
) -> None:
    """Send a message to an agent, or to all with '*'.

    The manager is hm1nd. BODY of "-" is read from stdin. Exit code 0 means that the message is on disk.

    \b
    Examples:
      hive-c0re send ada "Please update the changelog."
      hive-c0re send ada - < task.md
    """
    request: dict[str, object] = {"to": to, "body": read_body(body)}
    if reply_to is not None:
        request["reply_to"] = reply_to
    if idempotency_key is not None:
        request["idempotency_key"] = idempotency_key
    answer = Client(socket).post("/v1/messages", request)
    if as_json:
        print_json(answer)
        return
    recipients = ", ".join(coloured_agent(escaped_line(str(name))) for name in answer.get("recipients", []))
    again = " (it was stored before)" if answer.get("duplicate") else ""
    click.echo(f"message {answer.get('id')} → {recipients or 'nobody'}{again}")


_LONGEST_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5


@click.command()
@recipient_argument
@body_argument
@click.option("--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds to wait.")
@json_option
@click.pass_obj
def ask(socket: str | None, to: str, body: str, timeout: float, as_json: bool) -> None:
    """Send a message and wait for the answer.

    Only the answer is printed on stdout; then it is marked as read. Without an answer in time, or when the agent has
    ended its turn and sent nothing, the exit code is 4, and a later answer waits in the inbox. BODY of "-" is read from
    stdin.

    \b
    Examples:
      hive-c0re ask ada "What are you working on?"
      hive-c0re ask ada - --timeout 600 < question.md
    """
    client = Client(socket)
    asked = client.post("/v1/messages", {"to": to, "body": read_body(body)}).get("id")
    _warn_if_away(client, to)
    answer = _wait(client, asked, timeout)
    reply = answer.get("reply")
    if not isinstance(reply, dict) and answer.get("handled"):
        raise AskTimedOut(
            "ask_unanswered",
            f"{to} has handled message {asked} and ended its turn without an answer",
            hint=f'see what it did: "hive-c0re open {to}"; a later answer waits in "hive-c0re inbox"',
        )
    if not isinstance(reply, dict):
        raise AskTimedOut(
            "ask_timeout",
            f"no answer from {to} to message {asked} within {timeout:g} s",
            hint='a late answer waits in "hive-c0re inbox"',
        )
    if as_json:
        print_json(answer)
    else:
        click.echo(visible(str(reply.get("body"))))
    client.post("/v1/messages/read", {"ids": [reply.get("id")]})


def _wait(client: Client, asked: object, timeout: float) -> dict[str, object]:
    """Poll for the reply until it comes or `timeout` seconds have passed, also across a restart of the daemon."""
    end = time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        poll = min(left, _LONGEST_POLL_SECONDS)
        try:
            answer = client.get(f"/v1/messages/{asked}/reply", {"wait_seconds": f"{poll:.3f}"}, wait=poll)
        except Failure as failure:
            if not failure.transient or left < _RETRY_SECONDS:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if answer.get("reply") is not None or answer.get("handled") or time.monotonic() >= end:
            return answer


def _warn_if_away(client: Client, to: str) -> None:
    """Warn on stderr if the agent cannot answer now."""
    try:
        agent = client.get(agent_path(to))
    except Failure:
        return
    lifecycle, state = agent.get("lifecycle"), agent.get("state")
    if lifecycle not in {"running", "starting"}:
        click.echo(f'{to} is {lifecycle} and gets the message when it runs: "hive-c0re start {to}"', err=True)
    elif state == "paused":
        click.echo(f'{to} is paused and gets the message later: "hive-c0re resume {to}"', err=True)
    elif state == "needs_login":
        click.echo(f'{to} needs a login and gets the message then: "hive-c0re login {to}"', err=True)
    elif state == "budget":
        click.echo(f'{to} has no budget for a call now: see "hive-c0re budget {to}"', err=True)
    elif state == "failed":
        click.echo(f'{to} reports {state}, so no answer may come: see "hive-c0re logs {to}"', err=True)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show read messages too.")
@click.option("--keep", is_flag=True, help="Leave unread messages unread.")
@click.option("-n", "--limit", type=int, default=50, show_default=True, help="Number of messages to show, the newest.")
@click.option("--before", type=int, metavar="ID", help="Show messages older than this one.")
@json_option
@click.pass_obj
def inbox(socket: str | None, everything: bool, keep: bool, limit: int, before: int | None, as_json: bool) -> None:
    """Show the unread messages to you, and mark them read.

    They are marked after they were printed, so they stay unread if printing fails.

    \b
    Examples:
      hive-c0re inbox
      hive-c0re inbox --all --keep -n 10
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
        _print_remaining(bool(messages), 0 if everything and keep else int(answer.get("unread", 0)) - shown_unread)


def _shown(message: dict[str, Any], moment: datetime) -> str:
    sender = escaped_line(str(message.get("sender")))
    head = [
        coloured_agent(sender),
        dim(f"#{message.get('id')}"),
        dim(ago(message.get("sent_at"), moment)),
    ]
    if message.get("reply_to") is not None:
        head.append(dim(f"answers #{message['reply_to']}"))
    return "  ".join(head) + "\n" + indent(visible(str(message.get("body"))), "  ")


def _print_remaining(any_shown: bool, more_unread: int) -> None:
    """Print on stderr that there are no messages, or how many more are unread."""
    if not any_shown:
        click.echo("no messages to show", err=True)
    if more_unread > 0:
        click.echo(f"more unread messages: {more_unread}", err=True)
