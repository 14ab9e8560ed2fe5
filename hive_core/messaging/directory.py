"""The agents as recipients and senders: names, allowed recipients, current instances. In memory only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hive_core.errors import HiveError, conflict, forbidden, not_found
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import Kind
from hive_core.protocol.names import EVERYONE, MANAGER, OPERATOR, SYSTEM, is_person


@dataclass
class Member:
    """An agent as the broker sees it. `instance` is the harness that said hello last."""

    name: str
    kind: Kind
    allowed: frozenset[str] | None = None
    instance: str | None = None


class Directory:
    """The agents of the hive. The agents' registry fills it."""

    def __init__(self, apart: Callable[[str, str], bool] | None = None) -> None:
        """`apart` returns whether two agents may not know of each other; without it all may."""
        self._apart = apart
        self._members: dict[str, Member] = {}

    def put(self, member: Member) -> None:
        """Add or replace an agent."""
        self._members[member.name] = member

    def remove(self, name: str) -> None:
        """Remove an agent, so that nobody can send to it."""
        self._members.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self) -> list[str]:
        """Return the names of all agents."""
        return sorted(self._members)

    def member(self, name: str) -> Member:
        """Return the agent `name`; raises `unknown_agent`."""
        member = self._members.get(name)
        if member is None:
            raise not_found("unknown_agent", f"there is no agent {name!r}", "hive-c0re list shows those there are")
        return member

    def peers(self, name: str) -> list[str]:
        """Return the names of the agents of which the agent `name` may know, itself among them."""
        return [other for other in self.names() if not self._are_apart(name, other)]

    def known_to(self, name: str) -> list[str]:
        """Return the names of which an agent may know, also one that is not there yet."""
        return [other for other in self.names() if self._apart is None or not self._apart(name, other)]

    def _are_apart(self, one: str, other: str) -> bool:
        return self._apart is not None and one in self._members and self._apart(one, other)

    def recipients(self, sender: str, to: str, sees: Sight = EVERYTHING) -> list[str]:
        """Return the names of all recipients of a message from `sender` to `to`; `sees` are those that a person sees.

        Raises `unknown_recipient`, or `recipient_not_allowed` where the sender's list does not hold `to`.
        """
        member = self._members.get(sender)
        if member is not None and member.allowed is not None and to not in member.allowed:
            allowed = ", ".join(sorted(member.allowed)) or "nobody"
            raise forbidden(
                "recipient_not_allowed",
                f"{sender} may not send to {to!r}",
                f"its agent.toml allows: {allowed}",
            )
        if to == EVERYONE:
            everyone = [name for name in self.peers(sender) if name != sender and sees(name)]
            if not everyone:
                raise not_found("unknown_recipient", "there is nobody else in the hive", "write to operator")
            return everyone
        if to == OPERATOR or (to in self._members and sees(to) and not self._are_apart(sender, to)):
            return [to]
        if is_person(to) and sender == SYSTEM:
            return [OPERATOR]
        peers = [name for name in self.peers(sender) if sees(name)]
        known = ", ".join([MANAGER, *(name for name in peers if name != MANAGER)][:20])
        raise not_found("unknown_recipient", f"there is nobody called {to!r}", f"write to operator, {known} or *")

    def check_instance(self, name: str, instance: str) -> None:
        """Raise `superseded` unless `instance` is the harness that speaks for `name`.

        An early check: only the transactions of `leases` see a hello that is being stored.
        """
        if self.member(name).instance != instance:
            raise superseded(name)


def superseded(name: str) -> HiveError:
    """Return the error for a harness that another one has replaced."""
    return conflict(
        "superseded",
        f"this harness does not speak for {name} any more",
        "another one has said hello since; stop, or say hello if you are the newest",
    )
