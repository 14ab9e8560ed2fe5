"""Who a caller is to the gate."""

from __future__ import annotations

from hive_core.api.endpoint import Caller
from hive_core.gate.parties import Party


def party(caller: Caller) -> Party:
    """The caller as a party, as its socket tells; the actor is looked up now, while the caller is still there."""
    return Party(caller.name, caller.kind, caller.actor)
