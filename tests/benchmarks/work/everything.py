"""All figures of the benchmark `work`."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.figure import Figure
from tests.benchmarks.work import repositories, sessions


def run(directory: Path) -> list[Figure]:
    """Repositories first, in a hive of their own; then sessions in an agent."""
    found = []
    for part in (repositories, sessions):
        own = directory / part.__name__.rpartition(".")[2]
        own.mkdir()
        found += part.run(own)
    return found
