"""The part of the system prompt about the network: what the agent reaches, and how it asks for more."""

from __future__ import annotations

from hive_core.protocol import AgentConfig, AgentReach
from hive_core.protocol.network.named_sets import NAMED_SETS

_SHOWN = 60
"""Most rules that are named; an agent may have hundreds."""


def render_network(reach: AgentReach | None, config: AgentConfig, prefix: str) -> str:
    """Return the lines; empty for an older daemon, which does not say what the agent reaches."""
    if reach is None:
        return ""
    if not reach.sealed:
        return (
            "- You have the network of the host: its services on `localhost`, the networks that it is in, and the "
            "internet. Ports that you listen on are ports of the host, which others may have taken."
        )
    lines = [
        "- You have no network but a loopback of your own (`127.0.0.1`). You reach hosts only through the hive's "
        "proxy, which `http_proxy`, `https_proxy` and the like name to your programs.",
        f"- {_hosts(reach.hosts)} The operator may allow more, or less, while you work.",
        "- A program that does not use the proxy fails at once, for example with `Network is unreachable` or because "
        "no name can be resolved. Tell it of the proxy by its own settings. No other way leads out.",
        "- The proxy answers 403 to what is not allowed, and names the missing rule. If your task needs the host, call "
        f"`{prefix}request_network` with the host, the reason and for how many hours. For what you need for good, "
        "propose it in `allowed_hosts` of `agent.toml`. What your task does not need, do without.",
    ]
    if config.nix_daemon:
        lines.append("- Builds with Nix fetch through the Nix daemon of the host, which needs no rule.")
    return "\n".join(lines)


def _hosts(hosts: list[str]) -> str:
    if not hosts:
        return "You reach no host now."
    shown = ", ".join(f"`{host}`" for host in hosts[:_SHOWN])
    more = f" and {len(hosts) - _SHOWN} more" if len(hosts) > _SHOWN else ""
    sets = [f"`{host}` stands for {', '.join(NAMED_SETS[host])}" for host in hosts[:_SHOWN] if host in NAMED_SETS]
    meaning = f" ({'; '.join(sets)})" if sets else ""
    return f"You reach: {shown}{more}{meaning}."
