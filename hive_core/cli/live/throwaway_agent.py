"""The throwaway agent of `doctor --live`: its name, its configuration, and how it differs from other agents.

A run that was killed leaves its agent behind. The next run removes it, but must not remove a user's agent or the agent
of another run that still works. So the role of the agent, which is in its spawn proposal, names the process that
created it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hive_core.cli.client import Client, agent_path, proposal_path
from hive_core.protocol.names import OPERATOR

_NAME = re.compile(r"doctor[1-9][0-9]{0,2}")
_MOST = 999
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MARK = "Throwaway agent of hive-c0re doctor --live"
_MAKER = re.compile(
    rf"{re.escape(_MARK)} \(process ([0-9]{{1,10}}), started ([0-9]{{1,20}}), boot ([0-9a-f-]{{1,40}})\)"
)
QUESTION = "doctor asks: are you there?"
ANSWER = "doctor heard: yes"


def free_name(taken: set[str]) -> str:
    """Choose the first name that no agent has.

    The same names are used again, so that a new run ends the proposals that a failed run has left.
    """
    return next(name for name in (f"doctor{number}" for number in range(1, _MOST + 1)) if name not in taken)


def spawn_request(name: str, *, sealed: bool) -> dict[str, object]:
    """Return the spawn request of an agent that answers one question of the operator and sends nothing else."""
    script = [
        {"sender": "operator", "match": rf"\A{re.escape(QUESTION)}\Z", "send": [{"to": "operator", "text": ANSWER}]},
        {"match": ""},
    ]
    network = "sealed" if sealed else "host"
    config = {"backend": "scripted", "allowed_recipients": ["operator"], "script": script, "network": network}
    role = f"{_MARK} ({_self()}).\nIt answers one question and is then removed; nothing depends on it."
    return {"name": name, "config": config, "prompt": role}


def left_over(client: Client, names: set[str]) -> Iterator[str]:
    """Find throwaway agents whose process is gone."""
    for name in sorted(names):
        if _NAME.fullmatch(name) and (found := _maker(client, name)) and not _lives(*found):
            yield name


def agent_names(client: Client) -> set[str]:
    """List the names of all agents."""
    return {str(agent.get("name")) for agent in client.get("/v1/agents").get("agents", [])}


def purge(client: Client, name: str, wait: float) -> dict[str, Any]:
    """Remove the agent with all of its files and messages."""
    return client.post(agent_path(name, "destroy"), {"purge": True}, wait=wait)


def _maker(client: Client, name: str) -> tuple[int, int, str] | None:
    """Read the process that created the agent from its newest spawn; None if it is no throwaway agent."""
    found = client.get("/v1/proposals", {"agent": name, "state": "all", "limit": 100}).get("proposals", [])
    spawns = [one for one in found if one.get("kind") == "spawn" and _is_operator(str(one.get("by")))]
    if not spawns:
        return None
    # Only the operator can write the text of an operator's spawn.
    diff = str(client.get(proposal_path(name, int(spawns[0].get("number", -1)))).get("diff", ""))
    mark = _MAKER.search(diff)
    return (int(mark[1]), int(mark[2]), mark[3]) if mark else None


def _is_operator(label: str) -> bool:
    """Return True for a label of the operator, who is named `operator`, or `operator:USER`."""
    return label.partition(":")[0] == OPERATOR


def _self() -> str:
    return f"process {os.getpid()}, started {_started(os.getpid())}, boot {_boot()}"


def _lives(process: int, started: int, boot: str) -> bool:
    """Return True if the same process still runs; process numbers alone are reused."""
    if boot != _boot():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # The process exists and belongs to another user.
    return _started(process) in (0, started)


def _started(process: int) -> int:
    """Return the start time of the process in ticks since boot; 0 if this user cannot read it."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    # The name in parentheses may hold anything; the time is the 22nd field (proc_pid_stat(5)).
    return int(text.rpartition(")")[2].split()[19])


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "0"
