"""Ids of the messages that the recv tool gave to the model in this turn, written by the MCP server.

The harness reads them and acknowledges these messages with the turn. Messages that were leased but did not reach the
model, as its call was cancelled, are not listed; they stay unacknowledged and are received again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from hive_agent.infra import state_files

_MOST = 1_000
"""The daemon does not lease more messages to one agent."""
_MOST_BYTES = 64 * 1024


def _file(state: Path, instance: str) -> Path:
    return state / "tmp" / f"received-{instance}"


def record(state: Path, instance: str, ids: Sequence[int]) -> None:
    """Record that the model gets these messages."""
    path = _file(state, instance)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("".join(f"{message_id}\n" for message_id in ids))


def clear(state: Path, instance: str) -> None:
    """Remove the recorded ids at the start of a turn. If the file cannot be removed, `read` still returns them."""
    with contextlib.suppress(OSError):
        _file(state, instance).unlink()


def read(state: Path, instance: str) -> list[int]:
    """The recorded ids, at most 1,000. The agent can write the file, so invalid lines are skipped."""
    try:
        recorded = state_files.read_lines(_file(state, instance), _MOST_BYTES)
    except OSError:
        return []
    return [int(line) for line in recorded if re.fullmatch(rb"[1-9][0-9]{0,17}", line)][-_MOST:]
