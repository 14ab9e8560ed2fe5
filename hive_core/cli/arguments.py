"""Names of agents on the command line, completed by the shell from the running daemon."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from hive_core.cli.errors import Failure

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
