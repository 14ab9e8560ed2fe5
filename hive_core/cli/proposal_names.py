"""Which proposal a command is about: `ada 3`, or `ada/3` as tags and messages write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hive_core.cli.arguments import complete_agents
from hive_core.protocol.names import shown

F = TypeVar("F", bound=Callable[..., Any])

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
