"""What a tag of the gate tells: all that the index knows of a proposal, and what led to the tag."""

from __future__ import annotations

from dataclasses import dataclass, field

from hive_core.gate.records.states import State
from hive_core.protocol import Decider, ProposalKind


@dataclass(frozen=True)
class TagData:
    """A proposal as of one of its tags.

    `by` and `note` are the proposer's in every tag; who planted the tag is its tagger. `outcome` says why it came to
    this state: why it failed, was denied or withdrawn, the note of an approval. `approvals` are the labels of those who
    approved so far, or the rule that did. `expires_at` is in milliseconds since 1970. `purge` belongs to a destroy,
    `start` to a spawn.
    """

    agent: str
    number: int
    state: State
    kind: ProposalKind
    by: str
    note: str = ""
    base: str | None = None
    closure: str | None = None
    waits_for: Decider | None = None
    approvals: list[str] = field(default_factory=list)
    outcome: str = ""
    settings: list[str] = field(default_factory=list)
    closure_changes: list[str] = field(default_factory=list)
    log_tail: str = ""
    expires_at: int | None = None
    purge: bool = False
    start: bool = True
