"""The network of an agent in the lists and facts of commands about agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hive_core.cli.output import describe_network, moment, quoted
from hive_core.text import escaped_line

Answer = dict[str, Any]
_SHOWN_REFUSED = 3
_HOST = 100


def network_notes(agent: Answer) -> Iterator[str]:
    """Yield remarks on the network of an agent that an operator should see in a list; mostly none."""
    if is_open(agent):
        until = moment(agent.get("network_open_until"))
        yield f"network OPEN{f' until {until}' if until else ''}"
    if count := int(agent.get("network_requests") or 0):
        yield "1 request for the network waits" if count == 1 else f"{count} requests for the network wait"


def network_facts(agent: Answer, network: Answer) -> Iterator[tuple[str, str]]:
    """Yield the facts about the network of an agent with their labels; `network` has what was refused most."""
    name = escaped_line(str(agent.get("name") or ""))
    if agent.get("network") == "host" or agent.get("unsealed"):
        yield "Network", f"{describe_network(agent)}: no rule holds for it"
        return
    rules = int(agent.get("network_rules") or 0)
    parts = ["sealed", "1 rule" if rules == 1 else f"{rules} rules", *network_notes(agent)]
    text = f'{", ".join(parts)}: "hive-c0re net {name}"'
    yield "Network", click.style(text, fg="bright_red", bold=True) if is_open(agent) else text
    refused = [each for each in network.get("refused", []) if each.get("host")][:_SHOWN_REFUSED]
    # The agent has asked for them, and they may be any text.
    hosts = [quoted(f"{each['host']}:{each.get('port')} ({each.get('count')})", most=_HOST) for each in refused]
    yield "Refused most", ", ".join(hosts)


def is_open(agent: Answer) -> bool:
    """Return True if a sealed agent reaches everything that is public."""
    return bool(agent.get("network_open")) and agent.get("network") != "host" and not agent.get("unsealed")
