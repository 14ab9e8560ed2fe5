"""The data of a tag, and its text form.

Only the last paragraph, the block, is read back. Texts of agents stand before it in quotations without empty lines, and
in it as JSON in ASCII on one line, so nobody can put a line into the block or a block behind it. The parts for people
show control characters escaped and may be cut; the block holds the values unchanged. git's `%(trailers)` reads it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from hive_core.gate.records.block import TagBlock
from hive_core.gate.records.fetches import FetchPermission, quote_fetches
from hive_core.gate.records.quoted_proposal import QuotedProposal, quote_proposal
from hive_core.gate.records.states import State
from hive_core.protocol import Decider, ProposalKind
from hive_core.protocol.names import MANAGER, SYSTEM, is_agent_name
from hive_core.runtimes.base import Fetch, count_fetches
from hive_core.text import join_list, last_lines, one_line

__all__ = ["ProposalFields", "ProposalTag", "format_message", "parse_message"]


def _check_agent(name: str) -> str:
    if name != MANAGER and not is_agent_name(name):
        raise ValueError("not the name of an agent")
    return name


_Text = Annotated[str, Strict()]
_Count = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
_Flag = Annotated[bool, Strict()]


@dataclass(frozen=True)
class ProposalFields:
    """The fields of a proposal that both a tag and the index have.

    `by` and `note` are those of the proposer in every tag; the tagger is the party that caused the transition.
    `outcome` is the reason for this state: the reason of a failure, denial or withdrawal, or the note of an approval.
    `approvals` are the labels of the parties that have approved, or the rule. `expires_at` is in milliseconds since
    1970. `purge` belongs to a destroy, `start` to a spawn. `allowed_fetches` is what an operator has allowed the build
    to fetch from the network.
    """

    agent: Annotated[_Text, AfterValidator(_check_agent)]
    number: _Count
    state: State
    kind: ProposalKind
    by: _Text
    note: _Text = ""
    base: Annotated[_Text, Field(pattern="^[0-9a-f]{40}$")] | None = None
    closure: _Text | None = None
    waits_for: Decider | None = None
    approvals: list[_Text] = field(default_factory=list)
    outcome: _Text = ""
    expires_at: _Count | None = None
    purge: _Flag = False
    start: _Flag = True
    allowed_fetches: FetchPermission | None = None


@dataclass(frozen=True)
class ProposalTag(ProposalFields):
    """The data of a tag: all fields of the proposal, and the results of its build, which the index does not have.

    `missing_fetches` are those for want of which the build failed, complete or none (`can_be_recorded`). `tree` of
    `built/N` is the git tree with which the files that the build has used were compared; older daemons compared none.
    `pruned` is the commit that the tag was on, whose files were removed since.
    """

    settings: list[_Text] = field(default_factory=list)
    closure_changes: list[_Text] = field(default_factory=list)
    log_tail: _Text = ""
    missing_fetches: list[Fetch] = field(default_factory=list)
    tree: Annotated[_Text, Field(pattern="^[0-9a-f]{40}$")] | None = None
    pruned: Annotated[_Text, Field(pattern="^[0-9a-f]{40}$")] | None = None


_SUBJECT = 100
_SHOWN_NOTE = 10_000
_SHOWN_LOG = 8_000
_KEPT_LOG = 20_000
_SHOWN_LINES = 100
_SHOWN_FETCH = 1_500
_KEPT_LINES = 200
_WIDTH = 300
_BY_A_PARTY = frozenset({"proposal", "endorsed", "approved", "denied", "withdrawn"})
_WANTS: dict[ProposalKind, str] = {
    "config": "change the configuration of {agent}",
    "spawn": "make the agent {agent}",
    "destroy": "remove the agent {agent}",
    "rollback": "deploy again what {agent} ran on before",
    "rebuild": "build {agent} anew with the hyperhive of now",
}


def format_message(data: ProposalTag, who: str = "", *, marker: str = "") -> str:
    """Return the message of a tag with that data.

    Fields that the index does not need are cut, so that a tag is not too long for the code that reads git objects:
    the log to its end, lists to their beginning.

    Args:
        who: The label of the party that caused the transition, which is the tag's tagger.
        marker: The first part of the tag's name if that is no state (`endorsed`).
    """
    data = replace(
        data,
        settings=_cut_list(data.settings),
        closure_changes=_cut_list(data.closure_changes),
        log_tail=last_lines(data.log_tail, _KEPT_LOG),
    )
    word = marker or data.state
    quoted = quote_proposal(data)
    parts = [_subject(quoted, who, word), *_body(quoted, who, word), _BLOCK.format(data)]
    return "\n\n".join(parts) + "\n"


def parse_message(message: str) -> ProposalTag:
    """Return the data of a message. Raises ValueError for a message that `format_message` does not write."""
    body, data = _BLOCK.parse(message)
    if re.match(rf"[a-z]+: {data.agent}/{data.number}(?![0-9])", body) is None:
        raise ValueError(
            f"the message of a tag of {data.agent}/{data.number} is not in the form in which it is written"
        )
    return data


def mark_pruned(message: str, commit: str) -> str:
    """Return the message of a tag on `commit` with a line in its block that says that its files were removed.

    Raises ValueError as `parse_message` does.
    """
    data = replace(parse_message(message), pruned=commit)
    body, _, _ = message.removesuffix("\n").rpartition("\n\n")
    return f"{body}\n\n{_BLOCK.format(data)}\n"


def _subject(data: QuotedProposal, who: str, word: str) -> str:
    """Return the first line: the state, the proposal, the party. Notes and reasons are in the body."""
    about = f"{word}: {data.agent}/{data.number}" + ("" if data.kind == "config" else f" ({data.kind})")
    by_rule = word == State.APPROVED and who in ("", SYSTEM) and data.kind != "rebuild" and bool(data.approvals)
    name = data.by if word == State.PROPOSAL else data.approvals[-1] if by_rule else who
    if word in _BY_A_PARTY and name:
        about += f" by {one_line(name, 60)}"
    waits = word == State.BUILT and data.waits_for is not None
    return one_line(f"{about}: waits for the {data.waits_for}" if waits else about, _SUBJECT)


def _body(data: QuotedProposal, who: str, word: str) -> list[str]:
    wants = _WANTS[data.kind].format(agent=data.agent)
    note = data.note.block(_SHOWN_NOTE, otherwise="(no note)")
    parts = [f"{one_line(data.by, 60)} proposed to {wants}:\n{note}"]
    if data.outcome:
        by = f" by {one_line(who, 60)}" if who and word in _BY_A_PARTY else ""
        heading = "What was said on the approval" if word == State.DEPLOYED else f"{word.capitalize()}{by}"
        parts.append(f"{heading}:\n{data.outcome.block(_SHOWN_NOTE)}")
    if data.kind == "destroy" and data.purge:
        parts.append("Its state, login and messages are removed for good.")
    if data.kind == "spawn" and not data.start:
        parts.append("It is not started.")
    if data.approvals:
        parts.append(f"Approved so far:\n{join_list(data.approvals, _SHOWN_LINES, _WIDTH)}")
    if data.settings:
        parts.append(f"Settings:\n{join_list(data.settings, _SHOWN_LINES, _WIDTH)}")
    if data.closure_changes:
        parts.append(f"Changes of what was built:\n{join_list(data.closure_changes, _SHOWN_LINES, _WIDTH)}")
    if data.log_tail:
        parts.append(f"The end of the build's log:\n{data.log_tail.end(_SHOWN_LOG).block(_SHOWN_LOG)}")
    if data.allowed_fetches is not None:
        parts.append(_allowed_fetches(data.agent, data.allowed_fetches))
    return parts


def _allowed_fetches(agent: str, permission: FetchPermission) -> str:
    by, failed = one_line(permission.by, 60), f"{agent}/{permission.failed}"
    lines = quote_fetches(permission.fetches, _SHOWN_LINES, _SHOWN_FETCH)
    return f"{by} allowed {count_fetches(permission.fetches)}, for want of which {failed} had failed:\n{lines}"


def _cut_list(lines: list[str]) -> list[str]:
    kept = [line[:_WIDTH] for line in lines[:_KEPT_LINES]]
    return [*kept, f"and {len(lines) - len(kept)} more"] if len(lines) > len(kept) else kept


# The names are in the order of the lines.
_BLOCK = TagBlock(
    ProposalTag,
    {
        "Agent": "agent",
        "Number": "number",
        "State": "state",
        "Kind": "kind",
        "By": "by",
        "Note": "note",
        "Base": "base",
        "Closure": "closure",
        "Tree": "tree",
        "Pruned": "pruned",
        "Waits-For": "waits_for",
        "Approvals": "approvals",
        "Outcome": "outcome",
        "Settings": "settings",
        "Closure-Changes": "closure_changes",
        "Log-Tail": "log_tail",
        "Expires-At": "expires_at",
        "Purge": "purge",
        "Start": "start",
        "Allowed-Fetches": "allowed_fetches",
        "Missing-Fetches": "missing_fetches",
    },
    always=frozenset({"agent", "number", "state", "kind", "by"}),
    plain=frozenset({"agent", "state", "kind", "base", "tree", "pruned", "waits_for"}),
)
