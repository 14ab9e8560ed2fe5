"""The proof in `built/N` that the files that were built are those of the commit.

Older daemons built from a clone of the repository, so that attributes of the commit could change the files, and did not
compare them. What they have deployed stays as it is; what still waits for a decision or a deployment is not used.
"""

from __future__ import annotations

from hive_core.gate.records import tag_message
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State, tag_name
from hive_core.infra.git.repository import Repository
from hive_core.protocol import ProposalKind

WHY = "it was built by an older hive, which did not compare what it built with the commit"
WHAT_TO_DO = "propose it again"
NOT_COMPARED = f"{WHY}: {WHAT_TO_DO}"
"""The reason to end a proposal without the proof."""
_NEVER_BUILT: frozenset[ProposalKind] = frozenset({"rollback", "destroy"})


def was_compared(repository: Repository, row: ProposalRow) -> bool:
    """Return True if what the proposal was built to was compared with its commit, or if its kind is never built."""
    if row.kind in _NEVER_BUILT:
        return True
    tags = repository.read_tags([tag_name(State.BUILT, row.number)])
    return any(tag.target == row.commit and tag_message.parse_message(tag.message).tree is not None for tag in tags)
