"""Judges the ports of the agents' web pages: whether somebody else listens there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.protocol import AgentStatus
from hive_core.protocol.names import container_name


@dataclass(frozen=True)
class Listener:
    """A process that listens on a port; None and "" where this user may not see whose it is."""

    program: str = ""
    pid: int | None = None
    cgroup: str = ""


def judge_ports(
    agents: Sequence[AgentStatus], listeners: Mapping[int, Sequence[Listener]], daemon: int
) -> list[Finding]:
    """Whether every agent has its port for itself; `listeners` are those of the host's own network, by port.

    `daemon` is the daemon's process, which holds the ports.
    """
    check = "web-ports"
    found = []
    taken: defaultdict[int, list[str]] = defaultdict(list)
    for agent in agents:
        taken[agent.web_port].append(agent.name)
        for listener in listeners.get(agent.web_port, ()):
            if _is_anothers(agent, listener, daemon):
                who = f"{listener.program} (process {listener.pid})" if listener.pid else "another program"
                what = f"port {agent.web_port}, where the web page of {agent.name} is to be, is taken by {who}"
                found.append(warning(check, what, "have that program listen on another port"))
    for port, names in taken.items():
        if len(names) > 1:
            what = f"{' and '.join(names)} have the same port, {port}"
            found.append(error(check, what, f"destroy {names[-1]} with --purge and spawn it again"))
    return found or [ok(check, "no web port is taken by another program")]


def _is_anothers(agent: AgentStatus, listener: Listener, daemon: int) -> bool:
    if f"container@{container_name(agent.name)}.service" in listener.cgroup:
        return False
    # Whose it is cannot be told: then it is taken for the daemon's.
    return listener.pid not in (None, daemon)
