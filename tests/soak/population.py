"""The agents of a soaked hive, and who sends them messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hive_agent.backends.claude.command import find_program
from hive_agent.backends.cli_launch import ProgramNotFound
from tests.helpers.real_daemon import Json
from tests.integration.crash.load_generator import LoadSender

LINKS = 4
"""Agents in a chain."""
SINKS = ("sink0", "sink1", "sink2")
"""Agents for which consumers of the test speak."""
CHANGED = ("g0", "g1", "g2", "g3")
"""Agents whose configurations change."""
HOSTILE = ("bad0", "bad1")
"""Agents for which attackers speak."""
CLIS = ("cli0", "cli1")
"""Agents with an agent CLI."""


@dataclass(frozen=True)
class Population:
    """The agents that talk: chains that pass on what the operator sends, until it comes back to the operator."""

    chains: int
    has_clis: bool
    names: tuple[str, ...] = field(init=False)
    """All agents that the daemon starts, except those whose configurations change."""

    def __post_init__(self) -> None:
        links = tuple(name(chain, link) for chain in range(self.chains) for link in range(LINKS))
        object.__setattr__(self, "names", ("hm1nd", *links, *(CLIS if self.has_clis else ())))

    def senders(self) -> list[LoadSender]:
        """Return who sends."""
        return [
            *(LoadSender(f"chain{chain}", None, name(chain, 0), keyed=True, pause=3) for chain in range(self.chains)),
            *(LoadSender(f"many{each}", None, "sink0", keyed=True, pause=0.3) for each in range(3)),
            *(LoadSender(f"loose{each}", None, "sink1", keyed=False, pause=0.3) for each in range(3)),
            LoadSender("there", "sink0", "sink2", keyed=True, pause=0.4),
            LoadSender("back", "sink2", "sink0", keyed=False, pause=0.4),
            *(LoadSender(f"ask{each}", None, each, keyed=True, pause=3) for each in CLIS if self.has_clis),
        ]

    def configs(self) -> Iterator[tuple[str, Json]]:
        """Yield the agents that run, with their configurations."""
        for agent in self.names:
            if agent in CLIS:
                yield agent, {"backend": "claude", "idle_timeout": 20}
            else:
                yield agent, {"backend": "scripted", "script": self._script(agent)}
        for agent in CHANGED:
            yield agent, {"backend": "scripted"}

    def _script(self, agent: str) -> list[Json]:
        if agent == "hm1nd":
            return [{"match": "."}]
        chain, link = int(agent[1:].partition("x")[0]), int(agent.partition("x")[2])
        sender = "operator" if link == 0 else name(chain, link - 1)
        to = "operator" if link == LINKS - 1 else name(chain, link + 1)
        return [{"sender": sender, "match": "^chain", "send": [{"to": to, "text": "{body}"}]}]


def name(chain: int, link: int) -> str:
    """Return the name of an agent of a chain."""
    return f"c{chain}x{link}"


def why_no_claude(path: str) -> str:
    """Return why Claude Code cannot be started; empty if it can."""
    try:
        find_program({"PATH": path})
    except ProgramNotFound as error:
        return str(error)
    return ""
