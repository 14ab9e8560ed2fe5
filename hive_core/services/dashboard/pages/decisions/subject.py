"""The subject of a decision: a proposal of an agent's configuration, or work for a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments
from hive_core.services.dashboard.visit import Visit

Kind = Literal["agents", "work"]


@dataclass(frozen=True)
class Subject:
    """A proposal that people look at: an agent's, or work for a repository, with its number."""

    kind: Kind
    owner: str
    number: int

    @property
    def name(self) -> str:
        """Its name, such as `ada/3`."""
        return f"{self.owner}/{self.number}"

    @property
    def page(self) -> str:
        """The path of its page."""
        return f"/decisions/{self.kind}/{quote(self.owner, safe='')}/{self.number}"

    @property
    def live(self) -> str:
        """The arguments of its live parts."""
        return f"kind={self.kind}&owner={quote(self.owner, safe='')}&number={self.number}"

    def api(self, *more: str | int) -> str:
        """Return a path of the daemon's API about it."""
        return path_of("proposals" if self.kind == "agents" else "work", self.owner, self.number, *more)

    async def read(self, visit: Visit) -> dict[str, Any]:
        """Ask the daemon for it."""
        return await visit.hive.get(self.api())

    def is_changed_by(self, event: HiveEvent) -> bool:
        """Return True if the event is about it."""
        kind, owner = ("proposal.changed", "agent") if self.kind == "agents" else ("work.changed", "repo")
        return event.kind == kind and event.data.get(owner) == self.owner and event.data.get("number") == self.number


def subject_in(kind: Kind, fields: Arguments) -> Subject:
    """Return the subject that a path or the arguments of a live part name. Raises `not_found`."""
    return Subject(kind, fields.get("owner", ""), number_in(fields))


def number_in(fields: Arguments, name: str = "number", usual: str = "") -> int:
    """Return the number in a field. Raises `not_found` if there is none, and no usual one."""
    number = fields.get(name, usual)
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise HiveError("not_found", "there is nothing at this address", status=404)
    return int(number)
