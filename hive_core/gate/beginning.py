"""What every proposal begins with. Under the agent's lock: between the number and its tag nothing may come."""

from __future__ import annotations

from hive_core.errors import conflict
from hive_core.gate.context import Workplace
from hive_core.gate.parties import Party
from hive_core.gate.records import index
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import TagData
from hive_core.gate.records.transitions import seconds
from hive_core.protocol import ProposalKind


async def begin(
    place: Workplace,
    kind: ProposalKind,
    agent: str,
    party: Party,
    note: str,
    base: str | None,
    *,
    expires: bool = False,
) -> TagData:
    """What `proposal/N` is to say, of the next number; not planted yet. `expires` if it may wait for a decision."""
    return TagData(
        agent=agent,
        number=await place.read(lambda db: index.next_number(db, agent)),
        state=State.PROPOSAL,
        kind=kind,
        by=party.label,
        note=note,
        base=base,
        expires_at=(seconds() + int(place.settings.proposal_days * 86_400)) * 1_000 if expires else None,
    )


async def check_only_one(place: Workplace, agent: str, kind: ProposalKind) -> None:
    """Raise `already_proposed` while another proposal of that kind is open."""
    for row in await place.read(lambda db: index.open_of(db, agent)):
        if row.kind == kind:
            raise conflict(
                "already_proposed",
                f"{agent}/{row.number} proposes that already and is {row.state}",
                "wait for its decision, or withdraw it",
            )
