"""What a transition consists of: tags to be written, and a move of `main`; with the crash points between its steps."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from hive_core.gate.policy import Principal
from hive_core.gate.records.states import tag_name
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.infra.git.objects import Person

MAIN = "refs/heads/main"

Notification = tuple[str, str]
"""The recipient, and the text."""


def seconds() -> int:
    """Now, as git's tags tell time."""
    return int(time.time())


@dataclass(frozen=True)
class Transition:
    """A tag to be written: what it says, on which commit, by whom. `marker` names a tag that is no state."""

    data: ProposalTag
    commit: str
    by: Principal
    marker: str = ""

    @property
    def tag(self) -> str:
        return tag_name(self.marker or self.data.state, self.data.number)


@dataclass(frozen=True)
class MoveMain:
    """A change of what is deployed, from the commit `old` (None: nothing was) to `new`."""

    new: str
    old: str | None


def person(principal: Principal) -> Person:
    """Return how tags and commits name a party."""
    return Person(principal.label, f"{re.sub('[^a-z0-9]', '', principal.name)}@hive")


def crash_point(name: str) -> None:
    """Do nothing; tests replace this function to kill the daemon here."""
