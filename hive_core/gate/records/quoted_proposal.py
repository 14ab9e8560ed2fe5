"""Proposals as the templates of messages and tags get them: the texts of agents are `Quoted`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from hive_core.gate.records.fetches import FetchPermission
from hive_core.gate.records.settings_diff import find_reach
from hive_core.gate.records.states import State
from hive_core.protocol import Decider, ProposalKind
from hive_core.runtimes.base import Fetch
from hive_core.text import Quoted

if TYPE_CHECKING:
    from hive_core.gate.records.tag_message import ProposalTag

P = ParamSpec("P")


@dataclass(frozen=True)
class QuotedProposal:
    """The data of a tag. Names, numbers, states and labels of parties are the hive's; the other texts are an agent's.

    What the hive says itself in `outcome` is quoted, too, since it often repeats a text of the agent. `reach` is what
    leads out of the sandbox, in the hive's words.
    """

    agent: str
    number: int
    state: State
    kind: ProposalKind
    by: str
    base: str | None
    closure: str | None
    waits_for: Decider | None
    approvals: Sequence[str]
    purge: bool
    start: bool
    note: Quoted
    outcome: Quoted
    settings: Sequence[Quoted]
    reach: Sequence[str]
    closure_changes: Sequence[Quoted]
    log_tail: Quoted
    allowed_fetches: FetchPermission | None
    missing_fetches: Sequence[Fetch]


def quote_proposal(data: ProposalTag) -> QuotedProposal:
    """Return the data of a tag with its texts quoted."""
    return QuotedProposal(
        agent=data.agent,
        number=data.number,
        state=data.state,
        kind=data.kind,
        by=data.by,
        base=data.base,
        closure=data.closure,
        waits_for=data.waits_for,
        approvals=data.approvals,
        purge=data.purge,
        start=data.start,
        note=Quoted(data.note),
        outcome=Quoted(data.outcome),
        settings=[Quoted(line) for line in data.settings],
        reach=find_reach(data.settings),
        closure_changes=[Quoted(line) for line in data.closure_changes],
        log_tail=Quoted(data.log_tail),
        allowed_fetches=data.allowed_fetches,
        missing_fetches=data.missing_fetches,
    )


def quoting(template: Callable[Concatenate[QuotedProposal, P], str]) -> Callable[Concatenate[ProposalTag, P], str]:
    """Make a template that is called with the data of a tag and sees only its quoted texts."""

    @wraps(template)
    def render(data: ProposalTag, /, *arguments: P.args, **named: P.kwargs) -> str:
        return template(quote_proposal(data), *arguments, **named)

    return render
