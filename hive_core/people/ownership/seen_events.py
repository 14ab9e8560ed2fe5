"""The part of an event that a person may know, by the owners of the agents that it concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from hive_core.people.ownership.sight import Sight
from hive_core.protocol import EventKind
from hive_core.protocol.names import OPERATOR, SYSTEM


def seen_event(sees: Sight, kind: EventKind, data: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the data of an event as the caller may see it; None if it concerns only what the caller may not know."""
    if kind == "message.sent":
        return _seen_message(sees, data)
    agent = data.get("submitter") if kind == "work.changed" else data.get("agent")
    if agent == OPERATOR:
        return None  # The inbox on `host.sock`, which has the messages of all.
    return data if agent is None or sees(str(agent)) else None


def _seen_message(sees: Sight, data: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return a message between agents of which the caller may know one, without the others among its recipients.

    One to the operator is seen by who may know of its sender or, if it is from the hive, of the agent that it is about;
    what the hive says of itself is for the admins.
    """
    sender, recipients = str(data["sender"]), cast(Sequence[str], data["recipients"])
    seen = [name for name in recipients if name != OPERATOR and sees(name)]
    if OPERATOR in recipients:
        about = data.get("about") if sender == SYSTEM else sender
        if about is not None and sees(str(about)):
            return {**data, "recipients": [*seen, OPERATOR]}
    if not seen and (sender in (OPERATOR, SYSTEM) or not sees(sender)):
        return None
    return {**data, "recipients": seen}
