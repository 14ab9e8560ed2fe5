"""The parts of a transition: tags to be written, and a move of `main`; and the crash points between its steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hive_core.gate.policy import Principal
from hive_core.gate.records.states import tag_name
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.infra.database.database import steady_milliseconds
from hive_core.infra.git.objects import Person

MAIN = "refs/heads/main"

Notification = tuple[str, str]
"""The recipient and the text of a message."""


def seconds() -> int:
    """Return the time in seconds since 1970, as in the tags of git. It does not go back while the daemon runs."""
    return steady_milliseconds() // 1_000


@dataclass(frozen=True)
class Transition:
    """A tag to be written: its data, commit and party. `marker` replaces the state in the name (`endorsed`)."""

    data: ProposalTag
    commit: str
    by: Principal
    marker: str = ""

    @property
    def tag(self) -> str:
        """The name of the tag."""
        return tag_name(self.marker or self.data.state, self.data.number)


@dataclass(frozen=True)
class MoveMain:
    """A move of `main` from the commit `old` (None: there was no `main`) to `new`."""

    new: str
    old: str | None


def person(principal: Principal) -> Person:
    """Return the name and address of a party in tags and commits."""
    return Person(principal.label, f"{re.sub('[^a-z0-9-]', '', principal.name)}@hive")


def crash_point(name: str) -> None:
    """Do nothing; tests replace this function to kill the daemon here."""
