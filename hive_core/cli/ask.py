"""`hive-c0re ask`: send a message and wait for the answer."""

from __future__ import annotations

import time

import click

from hive_core.cli.arguments import recipient_argument
from hive_core.cli.body import body_argument, read_body
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import AskTimedOut, Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import visible

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

    The answer is printed, and nothing else on stdout, and then marked as read. If none comes in time, the command
    ends with 4, and a late answer waits in the inbox. BODY of "-" is read from stdin.
    """
    client = Client(socket)
    asked = client.post("/v1/messages", {"to": to, "body": read_body(body)}).get("id")
    _warn_if_away(client, to)
    answer = _wait(client, asked, timeout)
    reply = answer.get("reply")
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
    """The last answer of the poll. A daemon that restarts meanwhile still has the message, so it is asked again."""
    end = time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        poll = min(left, _LONGEST_POLL_SECONDS)
        try:
            answer = client.get(f"/v1/messages/{asked}/reply", {"wait_seconds": f"{poll:.3f}"}, wait=poll)
        except Failure as failure:
            if not failure.passing or left < _RETRY_SECONDS:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if answer.get("reply") is not None or time.monotonic() >= end:
            return answer


def _warn_if_away(client: Client, to: str) -> None:
    """Say at once, on stderr, that the answer may take its time."""
    try:
        agent = client.get(agent_path(to))
    except Failure:
        return
    lifecycle, state = agent.get("lifecycle"), agent.get("state")
    if lifecycle not in {"running", "starting"}:
        click.echo(f'{to} is {lifecycle} and gets the message once it runs: "hive-c0re start {to}"', err=True)
    elif state in {"paused", "needs_login"}:
        click.echo(f'{to} reports {state} and waits for a person: see "hive-c0re open {to}"', err=True)
    elif state == "failed":
        click.echo(f'{to} reports {state}, so no answer may come: see "hive-c0re logs {to}"', err=True)
