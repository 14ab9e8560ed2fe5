"""Which messages the recv tool handed to the model in this turn: written by the MCP server, read by the harness.

The harness acknowledges these with the turn. What was leased but never reached the model (its call was given up)
is not in here, stays unacknowledged and is handed out again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from hive_agent.infra import state_files

_MOST = 1_000
"""More are not leased to one agent."""
_MOST_BYTES = 64 * 1024


def _file(state: Path, instance: str) -> Path:
    return state / "tmp" / f"received-{instance}"


def record(state: Path, instance: str, ids: Sequence[int]) -> None:
    """Note that the model gets these messages now."""
    path = _file(state, instance)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("".join(f"{message_id}\n" for message_id in ids))


def clear(state: Path, instance: str) -> None:
    """Forget what was noted: a turn begins. What cannot be removed is still there for `read`."""
    with contextlib.suppress(OSError):
        _file(state, instance).unlink()


def read(state: Path, instance: str) -> list[int]:
    """The noted ids, at most 1,000. The file is the agent's to write, so what is no id in it is skipped."""
    try:
        noted = state_files.read_lines(_file(state, instance), _MOST_BYTES)
    except OSError:
        return []
    return [int(line) for line in noted if re.fullmatch(rb"[1-9][0-9]{0,17}", line)][-_MOST:]
