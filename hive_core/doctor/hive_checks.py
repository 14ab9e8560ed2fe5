"""Judges the daemon: whether it answers, and whether it is the one that the settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.protocol import AgentStatus, Deployment, HiveStatus
from hive_core.settings import Settings


class Unanswered(Exception):
    """The daemon was asked and gave no answer: a code, why, and what to do."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Hive:
    """What the daemon answered; `problem` is why it did not."""

    status: HiveStatus | None = None
    problem: Unanswered | None = None
    agents: list[AgentStatus] = field(default_factory=list)
    newest: Mapping[str, Deployment] = field(default_factory=dict)


def judge_hive(hive: Hive, settings: Settings, version: str) -> list[Finding]:
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
