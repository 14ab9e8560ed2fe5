"""Recipients and texts of notifications about work.

The texts of agents (titles, descriptions, reasons, comments, the diff, logs, names of files) are `Quoted`. None is on
the first line of a notification, which is made of the hive's own words, names and numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hive_core.gate.policy import is_operator, name_from_label
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Notification
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.protocol import WorkComment
from hive_core.protocol.names import MANAGER, OPERATOR, WORK_WORDS
from hive_core.text import Quoted, join_list, one_line
from hive_core.work.gate.policy import name_of
from hive_core.work.gate.records.work_tag import QuotedWork, WorkChange, quote_work

_NAME = 60
_TITLE = 200
_TEXT = 4_000
_LOG = 6_000
_DIFF = 16 * 1024
_LINES = 40
_FILES = 100
_FILE_WIDTH = 160
_WIDTH = 300
_CLAIM = "in the words of who submitted it (nobody has checked what it says of its turns, time or cost)"


def notifications_for(
    change: WorkChange, names: Collection[str], *, was_asked: str | None, diff: ShownDiff
) -> list[Notification]:
    """Return the messages that announce a change.

    Args:
        names: All agents of the hive.
        was_asked: The decider that the work waited for before.
        diff: The beginning of the diff, and its full size in bytes.
    """
    work, state = quote_work(change.data), change.data.state
    submitter = name_from_label(change.data.by)
    if state is State.BUILT:
        if work.waits_for is None:
            return []
        return [(name_of(work.waits_for), _review(work, change, diff))]
    if state is State.DEPLOYED:
        text = _published(work) if change.marker else _landed(work)
        recipients = [submitter]
    elif state is State.FAILED:
        text, recipients = _failed(work, change), [submitter]
        if work.approvals:
            # It goes back to who has approved, too, as what was approved has not landed.
            recipients += [name_from_label(label) for label in work.approvals]
    elif state is State.DENIED:
        text, recipients = _ended(work, f"was denied by {_party(change.by.label)}"), [submitter]
    elif state is State.WITHDRAWN:
        text = _ended(work, f"was withdrawn by {_party(change.by.label)}")
        recipients = [submitter] if was_asked is None else [submitter, name_of(was_asked)]
    else:
        return []
    return _to_others(recipients, text, change.by.name, names)


def commented(
    work: QuotedWork, comment: WorkComment, to: Collection[str], names: Collection[str]
) -> list[Notification]:
    """Return the messages about a remark."""
    text = _paragraphs(
        f"{_party(comment.by)} commented on work {work.name} (state {work.state}).",
        _place(comment),
        f"The comment:\n{Quoted(comment.text).block(_TEXT)}",
        f"Nothing else has happened to it. To change the work, commit and submit again: {_submit(work)}",
    )
    return _to_others(to, text, name_from_label(comment.by), names)


def _to_others(recipients: Iterable[str], text: str, by: str, names: Collection[str]) -> list[Notification]:
    """Return the message for those of the recipients that there are, but for who has caused it."""
    known = [name for name in dict.fromkeys(recipients) if name in names or is_operator(name)]
    return [(name, text) for name in known if name != by]


def _place(comment: WorkComment) -> str:
    if comment.path is None:
        return "It is about the whole."
    line = f", line {comment.line}" if comment.line is not None else ""
    return f"It is about this file{line}:\n{Quoted(comment.path).block(_WIDTH)}"


def _submit(work: QuotedWork) -> str:
    return f'submit_work(repo="{work.repo}", commit="...", title="...", description="...")'


def _review(work: QuotedWork, change: WorkChange, diff: ShownDiff) -> str:
    approved = f"Approved so far:\n{join_list(work.approvals, _LINES, _WIDTH)}" if work.approvals else ""
    remark = f"What was said with the approval:\n{work.outcome.block(_TEXT)}" if work.outcome else ""
    return _paragraphs(
        f"Review work {work.name}: approve or deny it (state {work.state}).",
        _how_to_decide(work, change.commit),
        _what(work),
        approved,
        remark,
        f"Commit {change.commit}, which begins at {work.base} of the branch. It would land on that branch.",
        _checks(work),
        _files(diff),
        _diff(work, diff),
    )


def _what(work: QuotedWork) -> str:
    heading = f"{_party(work.by)} submits, for the branch {one_line(work.branch, _WIDTH)} of {work.repo}:"
    text = f"{heading}\n{work.title.block(_TITLE)}"
    return f"{text}\n\nThe description, {_CLAIM}:\n{work.description.block(_TEXT)}" if work.description else text


def _how_to_decide(work: QuotedWork, commit: str) -> str:
    repo, number, state = work.repo, work.number, work.state
    if work.waits_for != "operator":
        which = f'repo="{repo}", number={number}'
        return (
            "Use your tools:\n"
            f"    show_work({which})\n"
            f'    comment_on_work({which}, path="...", line=1, text="...")\n'
            f'    approve_work({which}, commit="{commit}", expect="{state}", note="...")\n'
            f'    deny_work({which}, commit="{commit}", expect="{state}", note="why")'
        )
    word = WORK_WORDS.get(state, state)
    return (
        "On the command line:\n"
        f"    hive-c0re work diff {repo}/{number}\n"
        f"    hive-c0re work approve {repo}/{number} --expect {word} --commit {commit}\n"
        f"    hive-c0re work deny {repo}/{number} --expect {word} --commit {commit} --note 'why'"
    )


def _checks(work: QuotedWork) -> str:
    if not work.checks:
        return "No checks: the operator has set none for this repository."
    return f"Checks:\n{join_list(work.checks, _LINES, _WIDTH)}"


def _files(diff: ShownDiff) -> str:
    if not diff.files:
        return "No file differs from the branch."
    count = len(diff.files)
    heading = f"Changed files: {count}."
    hidden = sum(file.hidden for file in diff.files)
    if hidden:
        heading += f" Of {hidden} this message does not show all: read them before you decide, or deny."
    if count > _FILES:
        heading += f" The first {_FILES} are listed here."
    return f"{heading}\n{join_list([file.describe() for file in diff.files], _FILES, _FILE_WIDTH)}"


def _diff(work: QuotedWork, diff: ShownDiff) -> str:
    if not diff.files:
        return ""
    heading = "The diff. Its lines begin with `> `; all of them are the submitter's words, not the hive's:"
    text = diff.text.encode(errors="replace")[:_DIFF].decode(errors="ignore")
    parts = [heading, Quoted(text).block(_DIFF)]
    if diff.cut:
        how = f"hive-c0re work diff {work.repo}/{work.number}" if work.waits_for == "operator" else "show_work"
        parts.append(f"The diff is cut here: it has {diff.size} bytes. More of it: {how}")
    return "\n".join(parts)


def _landed(work: QuotedWork) -> str:
    approved = f"Approved by:\n{join_list(work.approvals, _LINES, _WIDTH)}" if work.approvals else ""
    said = f"What was said with the approval:\n{work.outcome.block(_TEXT)}" if work.outcome else ""
    return _paragraphs(
        f"Work {work.name} has landed: the branch is at {work.landed} now.",
        "git pull in the clone brings it.",
        _what(work),
        approved,
        said,
    )


def _published(work: QuotedWork) -> str:
    return _paragraphs(
        f"Work {work.name} was published.", f"It is here:\n{work.link.block(_WIDTH)}", work.title.block(_TITLE)
    )


def _failed(work: QuotedWork, change: WorkChange) -> str:
    log = f"The end of the checks' log:\n{work.log_tail.end(_LOG).block(_LOG)}" if work.log_tail else ""
    if work.approvals:
        after = "It was approved and did not land. The branch was not changed."
    else:
        after = f"The branch was not changed. Mend what the reason says, commit, and submit again: {_submit(work)}"
    return _paragraphs(_ended(work, "failed"), after, f"It was commit {change.commit}.", _checks_that_ran(work), log)


def _checks_that_ran(work: QuotedWork) -> str:
    return f"Checks:\n{join_list(work.checks, _LINES, _WIDTH)}" if work.checks else ""


def _ended(work: QuotedWork, what: str) -> str:
    return _paragraphs(
        f"Work {work.name} {what}.",
        f"The reason:\n{work.outcome.block(_TEXT, otherwise='(no reason was given)')}",
        _what(work),
    )


def _party(label: str) -> str:
    name = name_from_label(label)
    return name if name in (MANAGER, OPERATOR) else one_line(name, _NAME)


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def join_names(names: Sequence[str]) -> str:
    """Return a list of names for a sentence of the hive's."""
    return ", ".join(one_line(name, _NAME) for name in names)
