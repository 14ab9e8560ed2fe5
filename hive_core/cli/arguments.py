"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from hive_core.cli.errors import Failure
from hive_core.cli.output import is_interactive
from hive_core.text import shown

F = TypeVar("F", bound=Callable[..., Any])


_GIVE_UP_SECONDS = 1.0
"""A daemon that hangs must not hang the operator's shell."""


def complete_agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Agents whose name starts with `incomplete`; nothing at all if no daemon answers at once."""
    from hive_core.cli.client import Client  # noqa: PLC0415 - wanted only when the Tab key is pressed

    client = Client(ctx.find_root().params.get("socket"), _GIVE_UP_SECONDS)
    try:
        agents: list[dict[str, Any]] = client.get("/v1/agents")["agents"]
        found = [(str(agent["name"]), f"{agent['lifecycle']}, {agent['state']}") for agent in agents]
    except (Failure, KeyError, TypeError):
        return []
    return [CompletionItem(name, help=state) for name, state in found if name.startswith(incomplete)]


agent_argument = click.argument("name", shell_complete=complete_agents)
"""The agent that a command is about."""
recipient_argument = click.argument("to", metavar="TO", shell_complete=complete_agents)
"""Who a message is for: an agent, `hm1nd`, or `*`."""


_LARGEST = 2**63 - 1


def proposal_arguments(command: F) -> F:
    """AGENT and NUMBER, which `which_proposal` or `agent_and_number` puts together."""
    number = click.argument("number", metavar="NUMBER", required=False)
    return click.argument("agent", metavar="AGENT", shell_complete=complete_agents)(number(command))


def which_proposal(agent: str, number: str | None) -> tuple[str, int]:
    """The agent's name, not checked yet, and the number; wrong usage if there is none."""
    name, found = agent_and_number(agent, number)
    if found is None:
        raise click.UsageError(f"Which proposal? Say it as '{name} NUMBER' or '{name}/NUMBER'.")
    return name, found


def agent_and_number(agent: str, number: str | None) -> tuple[str, int | None]:
    """As `which_proposal`, where the number may be left out."""
    name, slash, inside = agent.partition("/")
    if slash and number is not None:
        raise click.UsageError("The number is given twice.")
    text = inside if slash else number
    if text is None:
        return name, None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
        raise click.UsageError(f"{shown(text)} is no proposal's number.")
    return name, int(text)


def shown_proposal(agent: str, number: object) -> str:
    """The proposal as messages write it."""
    return f"{agent}/{number}"


note_option = click.option("--note", metavar="TEXT", help="Why; kept in the tag.")
"""A note that may be left out, or that is asked for."""


def asked_for(context: click.Context, note: str | None, question: str) -> str:
    """The note that was given, or the answer to `question` on the terminal; wrong usage if there is neither."""
    if note is None and is_interactive():
        # Written by hand: click's prompt puts a space on stdout, where --json promises nothing else.
        sys.stderr.write(f"{question} ")
        sys.stderr.flush()
        note = sys.stdin.readline().strip()
    if not note:
        raise click.UsageError("A reason is needed: add --note TEXT.", context)
    return note


body_argument = click.argument("body")
"""The message; `-` reads it from stdin."""


def read_body(given: str) -> str:
    """The message itself. Text from stdin is taken as it is, with its last newline."""
    if given != "-":
        return given
    if sys.stdin.isatty():
        click.echo("reading the message from the terminal; Ctrl-D on an empty line ends it", err=True)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Failure(
            "invalid_request", f"the text on stdin is not UTF-8 (byte {error.start})", hint="convert it with iconv"
        ) from None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")


def print_json(answer: object) -> None:
    """One JSON document on a line of its own, in printable ASCII: it is safe on a terminal, too."""
    click.echo(json.dumps(answer).replace("\x7f", "\\u007f"))
