"""Holding the limits that a configuration asks for against the operator's ceilings, before anything is made of it.

What was deployed under a higher ceiling stays deployed: that it gets no more is seen to at its next start.
"""

from __future__ import annotations

from hive_core.agents.limits import above_ceiling, excesses, remedy
from hive_core.errors import HiveError
from hive_core.gate.intake_lines import line_of
from hive_core.protocol import AgentConfig
from hive_core.settings import Bounds


def check_file(data: bytes, config: AgentConfig, ceilings: Bounds) -> None:
    """Refuse an agent.toml, read as `config`, that asks for too much. Raises `above_ceiling` with the lines."""
    if not (found := excesses(config, ceilings)):
        return
    text = data.decode()
    told = sorted((line_of(text, [each.key]), each.words()) for each in found)
    why = "; ".join(f"agent.toml, line {line}: {words}" for line, words in told)
    raise HiveError("above_ceiling", why, hint=remedy(found))


def check_settings(config: AgentConfig, ceilings: Bounds) -> None:
    """Refuse settings that came without a file of which a line could be named. Raises HiveError `above_ceiling`."""
    if found := excesses(config, ceilings):
        raise above_ceiling(found)
