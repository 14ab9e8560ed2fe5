"""When the hive tells somebody that an agent is in trouble: once per incident, not once per crash."""

from __future__ import annotations

from hive_core.protocol import HarnessState
from hive_core.runtimes.base import UnitState


class Incidents:
    """An incident opens with the first crash and closes when the agent works again or is stopped on request."""

    def __init__(self) -> None:
        self._crashed: set[str] = set()
        self._needs_login: set[str] = set()

    def unit_changed(self, unit: UnitState) -> str | None:
        """What to tell, if this change opens an incident."""
        if unit.lifecycle in ("backoff", "failed"):
            if unit.name in self._crashed:
                return None
            self._crashed.add(unit.name)
            next_step = "it is being restarted" if unit.lifecycle == "backoff" else "it is not restarted"
            return f"{unit.name} crashed ({unit.exit_cause}); {next_step}. See its logs: hive-c0re logs {unit.name}"
        if unit.lifecycle in ("stopping", "stopped"):
            self._crashed.discard(unit.name)
        return None

    def state_reported(self, name: str, state: HarnessState) -> str | None:
        """What to tell, if this report opens an incident."""
        if state == "idle":
            self._crashed.discard(name)
            self._needs_login.discard(name)
        if state == "needs_login" and name not in self._needs_login:
            self._needs_login.add(name)
            return f"{name} needs a login: its agent CLI has no valid credentials. Its messages wait until it has."
        return None
