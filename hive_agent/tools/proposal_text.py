"""Proposals as a model reads them: what the hive says first, what others wrote framed as theirs. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from hive_agent.tools.output import LONGEST_OUTPUT
from hive_core.protocol import Proposal, ProposalDetail

_LINE_CHARACTERS = 200
_NOTE_CHARACTERS = 4_000
_LISTED = 200
"""How many settings or changes of what is built are shown; an agent can make as many as it likes."""


def line(proposal: Proposal) -> str:
    """A proposal in one line, its note's first line quoted."""
    words = f"{proposal.agent}/{proposal.number} {proposal.kind} by {proposal.by}: {_state(proposal)}"
    said = proposal.outcome or proposal.note
    return f"{words}; {'why' if proposal.outcome else 'note'}: {_quoted(said)}"


def listing(proposals: Iterable[Proposal], total: int, offset: int = 0) -> str:
    """One line each, cut to what a tool may answer; `offset` of all were passed over."""
    lines = []
    size = 0
    for proposal in proposals:
        lines.append(line(proposal))
        size += len(lines[-1]) + 1
        if size > LONGEST_OUTPUT:
            lines.pop()
            break
    if not lines:
        return "No proposals."
    shown = offset + len(lines)
    rest = f"; for more: offset={shown}" if shown < total else ""
    return "\n".join(lines) + (f"\n[{len(lines)} of {total} are shown{rest}]" if total > len(lines) else "")


def detail(proposal: ProposalDetail, whole_diff: str = "") -> str:
    """One proposal with all that a decision needs. `whole_diff` is a command that shows a diff that is cut here.

    What the proposer wrote stands between lines with a mark that it cannot know, and with every character visible
    that an eye would not see: text that reorders itself is not what it seems.
    """
    facts = [f"{proposal.agent}/{proposal.number}: {proposal.kind}, {_state(proposal)}", f"proposed by: {proposal.by}"]
    facts.append(f"commit: {proposal.commit}")
    facts.append(f"instead of: {proposal.base or 'nothing, it is new'}")
    facts.append(f"built to: {visible(proposal.closure or 'not built yet')}")
    if proposal.approvals:
        facts.append(f"approved by: {', '.join(proposal.approvals)}")
    if proposal.expires_at is not None:
        facts.append(f"expires: {proposal.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    written = {
        "note": _cut(proposal.note, _NOTE_CHARACTERS),
        "changes of agent.toml, in words": _several(proposal.settings),
        "what differs in what was built": _several(proposal.closure_changes),
    }
    if proposal.outcome:
        written["why it ended"] = _cut(proposal.outcome, _NOTE_CHARACTERS)
    mark = secrets.token_hex(8)
    parts = ["\n".join(facts), *(_framed(mark, what, text) for what, text in written.items() if text)]
    room = max(1_000, LONGEST_OUTPUT - sum(len(part) for part in parts) - 1_000)
    parts.append(_diff(proposal, mark, room, whole_diff))
    return "\n\n".join(parts)


def visible(text: str) -> str:
    """`text` with every character that is not printed as itself written out, but line ends and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in text
    )


def _diff(proposal: ProposalDetail, mark: str, room: int, whole_diff: str) -> str:
    shown = visible(proposal.diff)[:room]
    what = f"diff, {proposal.diff_bytes} bytes"
    warning = ""
    if len(proposal.diff.encode()) < proposal.diff_bytes or len(shown) < len(visible(proposal.diff)):
        what += f", ONLY THE FIRST {len(shown)} CHARACTERS ARE HERE"
        warning = f"\n\nThe diff is cut. To see all of it: {whole_diff}" if whole_diff else "\n\nThe diff is cut."
    return _framed(mark, what, shown or "(no file differs)") + warning


def _framed(mark: str, what: str, text: str) -> str:
    return f"--- {mark} begin: {what}\n{text}\n--- {mark} end"


def _state(proposal: Proposal) -> str:
    waits = f", waits for the {proposal.waits_for}'s decision" if proposal.waits_for is not None else ""
    return f"{proposal.state}{waits}"


def _several(lines: list[str]) -> str:
    shown = "\n".join(visible(item)[:_LINE_CHARACTERS] for item in lines[:_LISTED])
    return _cut(shown, _NOTE_CHARACTERS) + (f"\n[{_LISTED} of {len(lines)}]" if len(lines) > _LISTED else "")


def _quoted(text: str) -> str:
    first = visible(text.strip().partition("\n")[0])
    return f'"{first}"' if len(first) <= _LINE_CHARACTERS else f'"{first[:_LINE_CHARACTERS]}..."'


def _cut(text: str, most: int) -> str:
    clean = visible(text)
    return clean if len(clean) <= most else f"{clean[:most]}\n[the first {most} of {len(clean)} characters]"
