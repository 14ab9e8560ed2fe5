"""Pure checks of the settings, the daemon and deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hive_core.agents.limits import excesses
from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.errors import HiveError
from hive_core.protocol import AgentStatus, Deployment, HiveStatus, Limits
from hive_core.settings import Settings


class Unanswered(Exception):
    """The daemon was asked and gave no answer: a code, why, and what to do."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class DaemonFacts:
    """What the daemon answered; `problem` is why it did not."""

    status: HiveStatus | None = None
    problem: Unanswered | None = None
    agents: list[AgentStatus] = field(default_factory=list)
    newest: Mapping[str, Deployment] = field(default_factory=dict)


def check_hive(hive: DaemonFacts, settings: Settings, version: str) -> list[Finding]:
    """`settings` are those that were read here, `version` is that of this program."""
    if hive.problem is not None:
        judged = warning if hive.problem.code == "no_permission" else error
        remedy = hive.problem.hint or "see the daemon's log"
        return [judged("daemon", hive.problem.message, remedy)]
    status = hive.status
    if status is None:
        return []
    again = "restart the daemon, or run the doctor with the daemon's settings (--config, HIVE_ variables)"
    found = [ok("daemon", f"the daemon answers, version {status.version}")]
    if status.version != version:
        what = f"the daemon is version {status.version}, and installed is {version}"
        found = [warning("daemon", what, "restart the daemon")]
    read, runs = settings.runtime, status.runtime
    if runs != read:
        found.append(warning("settings-in-use", f'the daemon has runtime = "{runs}", the settings say "{read}"', again))
    if status.state_dir != str(settings.layout.state_dir):
        what = f"the daemon keeps its state in {status.state_dir}, the settings say {settings.layout.state_dir}"
        found.append(warning("settings-in-use", what, again))
    return found


def check_settings(settings: Settings | HiveError) -> list[Finding]:
    """`settings`, or why they cannot be read."""
    if isinstance(settings, HiveError):
        return [error("settings", settings.message, settings.hint or "mend the settings")]
    found = [ok("settings", f'the settings are good, runtime = "{settings.runtime}"')]
    for each in excesses(Limits.model_validate(settings.limits.model_dump()), settings.ceilings):
        what = f"limits.{each.key} is {each.asked}, and ceilings.{each.key} is {each.ceiling}: the ceiling holds"
        found.append(warning("settings", what, "lower the one or raise the other"))
    return found


@dataclass(frozen=True)
class RunningAgent:
    """One agent: what the daemon says of it, the newest of its deployments, and what lies on the disk.

    `started_on` is the closure on which the container is started, "" if there is none, None where there are no
    containers, or where this user cannot see it. `there` says whether the deployment's closure is on the disk, None if
    this user cannot see that.
    """

    agent: AgentStatus
    newest: Deployment | None
    started_on: str | None
    there: bool | None


def check_deployed(running: Sequence[RunningAgent]) -> list[Finding]:
    """Whether every agent's deployment is what it has, and can be started again."""
    found = [finding for one in running for finding in _check_agent(one)]
    return found or [ok("deployed", "every agent has what was approved for it")]


def _check_agent(one: RunningAgent) -> list[Finding]:
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
