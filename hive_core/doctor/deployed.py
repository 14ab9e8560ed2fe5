"""Judges whether agents run what was approved: drift between deployments, containers and the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.protocol import AgentStatus, Deployment


@dataclass(frozen=True)
class Running:
    """One agent: what the daemon says of it, the newest of its deployments, and what lies on the disk.

    `started_on` is the closure on which the container is started, "" if there is none, None where there are no
    containers, or where this user cannot see it. `there` says whether the deployment's closure is on the disk, None if
    this user cannot see that.
    """

    agent: AgentStatus
    newest: Deployment | None
    started_on: str | None
    there: bool | None


def judge_deployed(running: Sequence[Running]) -> list[Finding]:
    """Whether every agent's deployment is what it has, and can be started again."""
    found = [finding for one in running for finding in _judge(one)]
    return found or [ok("deployed", "every agent has what was approved for it")]


def _judge(one: Running) -> list[Finding]:
    name, newest = one.agent.name, one.newest
    if newest is None:
        what = f"{name} has no deployment in its history"
        return [error("deployed", what, "hive-c0re proposals reindex, and see the daemon's log")]
    found = []
    if one.agent.deployment != newest.number:
        what = f"{name} is on deployment {one.agent.deployment}, and {newest.number} was deployed last"
        found.append(warning("deployed", what, f"see hive-c0re proposals --agent {name}: one may be under way"))
    elif one.started_on in (None, newest.closure) or one.agent.lifecycle in ("stopped", "failed"):
        pass  # Whatever one that does not run was started on last: its next start sets that first.
    elif one.started_on == "":
        what = f"nothing says on what the container of {name} is started"
        found.append(error("deployed", what, f"hive-c0re restart {name}"))
    else:
        what = f"the container of {name} is started on {one.started_on}, and approved was {newest.closure}"
        found.append(error("deployed", what, f"find out who changed it, then hive-c0re restart {name}"))
    if one.there is False:
        what = f"what {name} was deployed with is gone: {newest.closure}"
        found.append(error("closure", what, f"hive-c0re rebuild {name}"))
    if one.agent.needs_update:
        what = f"{name} was built with an older hyperhive than the hive's own"
        found.append(warning("updates", what, f"hive-c0re rebuild {name}"))
    return found
