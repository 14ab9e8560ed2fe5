"""The agents that there are: what is asked for of each, known to the broker as well."""

from __future__ import annotations

from collections.abc import Sequence

from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, not_found
from hive_core.messaging import Directory, Member
from hive_core.protocol.names import MANAGER, is_agent_name, shown, why_not


class Roster:
    """Records by name. In memory: the database has them, too."""

    def __init__(self, directory: Directory) -> None:
        """`directory` is kept up to date with it."""
        self._directory = directory
        self._records: dict[str, AgentRecord] = {}

    def enrol(self, record: AgentRecord) -> None:
        """Add an agent; from now on it can be written to."""
        self._directory.put(Member(record.name, record.kind, _allowed(record), record.instance))
        self._records[record.name] = record

    def replace(self, record: AgentRecord) -> None:
        """Something else is asked for of the agent, or in force. Its harness stays the one that speaks for it."""
        self._directory.member(record.name).allowed = _allowed(record)
        self._records[record.name] = record

    def strike(self, name: str) -> None:
        """Remove the agent."""
        self._directory.remove(name)
        del self._records[name]

    def find(self, name: str) -> AgentRecord | None:
        """The agent's record, or None."""
        return self._records.get(name)

    def record(self, name: str) -> AgentRecord:
        """The agent's record; raises `unknown_agent`, or `bad_name` for what can be none."""
        record = self._records.get(name)
        if record is not None:
            return record
        check_name(name)
        raise not_found("unknown_agent", f"there is no agent {shown(name)}", "hive-c0re list shows those there are")

    def all(self) -> Sequence[AgentRecord]:
        """All agents, the manager first."""
        return sorted(self._records.values(), key=lambda record: (record.kind != "manager", record.name))


def _allowed(record: AgentRecord) -> frozenset[str] | None:
    allowed = record.config.allowed_recipients
    return None if allowed is None else frozenset(allowed)


def check_name(name: str) -> None:
    """Raise `bad_name` for what can be no agent's name."""
    if name != MANAGER and not is_agent_name(name):
        raise HiveError("bad_name", why_not(name), hint="1 to 9 characters a-z and 0-9, a letter first")
