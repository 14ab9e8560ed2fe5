"""The limits of a fetch from an agent."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.cli.errors import Failure


@dataclass(frozen=True)
class FetchLimits:
    """The most that a fetch from an agent brings and takes: bytes, seconds, branches, objects, and bytes of memory."""

    bytes: int = 1024**3
    seconds: float = 900.0
    branches: int = 1_000
    objects: int = 10_000_000
    memory: int = 2 * 1024**3


def too_much(agent: str, what: str) -> Failure:
    """Return the failure of a fetch that has reached a limit."""
    hint = "look at what it has first, or raise --max-size or --timeout"
    return Failure("too_much", f"nothing was fetched: {agent} {what}", hint=hint)
