"""Recipients and texts of notifications about transitions.

The texts of agents (notes, reasons, the diff, settings, logs) are `Quoted`: marked, escaped and cut. None is on the
first line of a notification, which is made of the hive's own words, names and numbers. No notification is longer than
the body of a message may be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hive_core.gate.policy import asked, is_operator, name_from_label
from hive_core.gate.records.fetches import quote_fetches
from hive_core.gate.records.quoted_proposal import QuotedProposal, quoting
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalFields
from hive_core.gate.records.transitions import Notification, Transition
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.protocol import Decider
from hive_core.protocol.names import MANAGER, OPERATOR, PERSON, RESERVED, is_agent_name
from hive_core.text import PLAIN_DIFF, Quoted, join_list, one_line, visible

_DIFF_BYTES = 16 * 1024
_NAME = 60
_NO_NOTE = "(no note)"
_NOTE = 4_000
_LOG = 6_000
_LINES = 40
_FILES = 100
_FILE_WIDTH = 160
_WIDTH = 300
_FETCHES = 20
_FETCH_WIDTH = 1_500
_NO_DIFF = ShownDiff()
_OUTDATED = (
    "Their configurations stay as they are and nobody has to approve: the same commit is built anew and deployed. "
    "An agent that does not come up with it goes back to what it runs on now."
)


@quoting
def review(data: QuotedProposal, commit: str, diff: ShownDiff) -> str:
    """Ask `data.waits_for` for a decision."""
    name = f"{data.agent}/{data.number}"
    return _paragraphs(
        f"Review proposal {name}: approve or deny it (state {data.state}).",
        _how_to_decide(data, commit),
        _reach(data),
        f"{_party(data.by)} proposes to {_wish(data)}. The note with it, in the words of who proposed:\n"
        f"{data.note.block(_NOTE, otherwise=_NO_NOTE)}",
        f"Approved so far:\n{join_list(data.approvals, _LINES, _WIDTH)}" if data.approvals else "",
        _result(data, commit),
        _files(data, diff),
        f"Changes of settings (agent.toml):\n{join_list(data.settings, _LINES, _WIDTH)}" if data.settings else "",
        _allowed_fetches(data),
        _closure_changes(data),
        _diff(data, commit, diff),
    )


@quoting
def endorsed(data: QuotedProposal, who: str, commit: str) -> str:
    """Ask the second of two for their decision, now that the first, `who`, has approved."""
    name = f"{data.agent}/{data.number}"
    said = f", saying:\n{data.outcome.block(_NOTE)}" if data.outcome else "."
    return _paragraphs(
        f"Review proposal {name}: approve or deny it (state {data.state}).",
        _how_to_decide(data, commit),
        _reach(data),
        f"{_party(who)} has approved it{said}",
        f"{_party(data.by)} proposes to {_wish(data)}. The note with it, in the words of who proposed:\n"
        f"{data.note.block(_NOTE, otherwise=_NO_NOTE)}",
        f"Changes of settings (agent.toml):\n{join_list(data.settings, _LINES, _WIDTH)}" if data.settings else "",
        _allowed_fetches(data),
        _closure_changes(data),
    )


@quoting
def fetches_allowed(data: QuotedProposal) -> str:
    """Announce that an operator has allowed the fetches of a failed build, and that it is built again."""
    permission = data.allowed_fetches
    if permission is None:
        return ""
    return _paragraphs(
        f"Proposal {data.agent}/{data.number} is {data.agent}/{permission.failed} once more, with its fetches allowed.",
        "Its commit is built again, then decided on like any other. Nothing is to be done until you hear how it ended.",
        _allowed_fetches(data),
        f"It is to {_wish(data)}, proposed by {_party(data.by)}:\n{data.note.block(_NOTE, otherwise=_NO_NOTE)}",
    )


@quoting
def deployed(data: QuotedProposal) -> str:
    """Announce that the proposal is deployed."""
    name = f"{data.agent}/{data.number}"
    return _paragraphs(
        f"Proposal {name} is deployed.",
        f"It was to {_wish(data)}, proposed by {_party(data.by)}:\n{data.note.block(_NOTE, otherwise=_NO_NOTE)}",
        f"Approved by:\n{join_list(data.approvals, _LINES, _WIDTH)}" if data.approvals else "",
        f"What was said with the approval:\n{data.outcome.block(_NOTE)}" if data.outcome else "",
    )


@quoting
def denied(data: QuotedProposal, who: str) -> str:
    """Announce that `who` has denied the proposal."""
    return _ended(
        data, f"was denied by {_party_name(who)}", "Nothing was changed. Propose again once the reason is met."
    )


@quoting
def withdrawn(data: QuotedProposal, who: str) -> str:
    """Announce that `who` (the proposer, or the hive itself) has withdrawn the proposal."""
    return _ended(data, f"was withdrawn by {_party_name(who)}", "Nothing was changed. No decision is needed any more.")


@quoting
def failed(data: QuotedProposal) -> str:
    """Announce that the build or the deployment of the proposal has failed."""
    if data.approvals:
        after = "It was approved and did not take effect. What was deployed before is in force."
    elif data.missing_fetches:
        after = _how_to_fetch(data)
    elif data.kind == "rebuild":
        after = "Nothing was changed, what was deployed before is in force. Rebuild it again when the reason is met."
    else:
        after = "Nothing was changed. Mend what the reason says, commit, and propose the new commit."
    log = f"The end of the build's log:\n{data.log_tail.end(_LOG).block(_LOG)}" if data.log_tail else ""
    return _ended(data, "failed", after, log)


def outdated(agents: Sequence[str], *, by_itself: bool, to_manager: bool) -> str:
    """Announce agents that were built with an older hyperhive. With `by_itself` they are updated automatically."""
    many = f"{len(agents)} agents" if len(agents) > 1 else agents[0]
    which = f"Built with an older hyperhive than the hive's own:\n{join_list(agents, _LINES, _WIDTH)}"
    if by_itself:
        first = f"Nothing to do: {many} will be rebuilt, a few at a time."
        return _paragraphs(first, "What somebody has rolled back stays as it is.", which, _OUTDATED)
    how = 'your tool: rebuild(agent="...")' if to_manager else "the command line: hive-c0re rebuild --outdated"
    return _paragraphs(f"Rebuild {many}, to run on the hyperhive of now.", f"Use {how}", which, _OUTDATED)


def _ended(data: QuotedProposal, what: str, after: str, more: str = "") -> str:
    return _paragraphs(
        f"Proposal {data.agent}/{data.number} {what}.",
        f"The reason:\n{data.outcome.block(_NOTE, otherwise='(no reason was given)')}",
        after,
        f"It was to {_wish(data)}, proposed by {_party(data.by)}:\n{data.note.block(_NOTE, otherwise=_NO_NOTE)}",
        more,
    )


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _party(label: str) -> str:
    return one_line(label, _NAME)


def _party_name(label: str) -> str:
    """Return the name of a party for a first line, without the name of the operator's user."""
    name = name_from_label(label)
    return name if name in RESERVED or is_agent_name(name.removeprefix(PERSON)) else "somebody"


def _wish(data: QuotedProposal) -> str:
    if data.kind == "config":
        return f"change the configuration of {data.agent}"
    if data.kind == "rollback":
        return f"deploy again what {data.agent} ran on before"
    if data.kind == "rebuild":
        return f"build {data.agent} anew with the hyperhive of now"
    if data.kind == "spawn":
        return f"make the agent {data.agent}" + ("" if data.start else " and not start it yet")
    return f"remove the agent {data.agent}" + (
        " and ALL of its files and messages, for good" if data.purge else ", whose files and messages are kept"
    )


def _how_to_decide(data: QuotedProposal, commit: str) -> str:
    agent, number, state = data.agent, data.number, data.state
    if data.waits_for == "manager":
        which = f'agent="{agent}", number={number}'
        return (
            "Use your tools:\n"
            f"    show_proposal({which})\n"
            f'    approve({which}, commit="{commit}", expect="{state}", note="...")\n'
            f'    deny({which}, commit="{commit}", expect="{state}", note="why")'
        )
    return (
        "On the command line:\n"
        f"    hive-c0re proposals show {agent} {number}\n"
        f"    hive-c0re approve {agent} {number} --expect {state} --commit {commit}\n"
        f"    hive-c0re deny {agent} {number} --expect {state} --commit {commit} --note 'why'"
    )


def _reach(data: QuotedProposal) -> str:
    """Return what a sealed agent would not have, which stands before all that somebody else has written."""
    return "\n".join(["BEYOND THE SEAL, it gets:", *(f"- {each}" for each in data.reach)]) if data.reach else ""


def _result(data: QuotedProposal, commit: str) -> str:
    if data.kind == "destroy":
        return f"It runs on commit {commit}."
    built = f"It was built to {one_line(data.closure, _WIDTH)}.\n" if data.closure else ""
    return f"{built}Commit {commit}, on top of {data.base or 'nothing: this is the first'}."


def _closure_changes(data: QuotedProposal) -> str:
    # The local runtime builds no system, so the diff of the files shows everything.
    if not data.closure_changes:
        return ""
    return f"Changes of what it is built to:\n{join_list(data.closure_changes, _LINES, _WIDTH)}"


def _allowed_fetches(data: QuotedProposal) -> str:
    permission = data.allowed_fetches
    if permission is None:
        return ""
    heading = (
        f"{_party(permission.by)} allowed these fetches from the network for the build, and no others, after "
        f"{data.agent}/{permission.failed} had failed for want of them. That approves nothing else:"
    )
    lines = quote_fetches(permission.fetches, _FETCHES, _FETCH_WIDTH)
    more = f"\nAll of them: hive-c0re proposals show {data.agent} {data.number}"
    return f"{heading}\n{lines}" + (more if len(permission.fetches) > _FETCHES else "")


def _how_to_fetch(data: QuotedProposal) -> str:
    command = f"hive-c0re proposals allow-fetches {data.agent} {data.number}"
    return (
        "Nothing was changed. Only the operator may allow these fetches, exactly these, and have the commit built "
        f"again ({command} shows how): ask with a message, saying what they are for.\n"
        "Or change the configuration so that it needs none that the hive's binary caches do not have, and propose that."
    )


def _files(data: QuotedProposal, diff: ShownDiff) -> str:
    """Return the list of all changed files, which stands before everything else that an agent could make long."""
    if data.kind == "destroy":
        return ""
    if not diff.files:
        return "No file differs from what is deployed."
    count = len(diff.files)
    heading = f"Changed files: {count}."
    hidden = sum(file.hidden for file in diff.files)
    if hidden:
        heading += f" Of {hidden} this message does not show all: read them before you decide, or deny."
    if _is_cut_by_escapes(diff):
        heading += " Characters that cannot be seen fill the diff: read all of it before you decide, or deny."
    if count > _FILES:
        show = "show_proposal" if data.waits_for == "manager" else "hive-c0re proposals show"
        heading += f" The first {_FILES} are listed here, all of them by {show}."
    return f"{heading}\n{join_list([file.describe() for file in diff.files], _FILES, _FILE_WIDTH)}"


def _diff(data: QuotedProposal, commit: str, diff: ShownDiff) -> str:
    if data.kind == "destroy" or not diff.files:
        return ""
    heading = "The diff. Its lines begin with `> `; all of them are the proposer's words, not the hive's:"
    text = diff.text.encode(errors="replace")[:_DIFF_BYTES].decode(errors="ignore")
    parts = [heading, Quoted(text).block(_DIFF_BYTES)]
    if diff.cut or _is_cut_by_escapes(diff):
        parts.append(f"The diff is cut here: it has {diff.size} bytes. {_the_rest(data, commit)}")
    return "\n".join(parts)


def _is_cut_by_escapes(diff: ShownDiff) -> bool:
    """Return True if the text is longer than a message shows once its invisible characters are escaped."""
    return len(visible(diff.text)) > _DIFF_BYTES


def _the_rest(data: QuotedProposal, commit: str) -> str:
    if data.waits_for == "manager":
        what = f"diff {PLAIN_DIFF} {data.base}" if data.base is not None else f"show {PLAIN_DIFF}"
        return f"show_proposal gives 64 KiB of it, git -C /applied/{data.agent}.git {what} {commit} all."
    return f"All of it: hive-c0re proposals diff {data.agent} {data.number}"


def notifications_for(
    transition: Transition,
    names: Collection[str],
    *,
    was_asked: Decider | None = None,
    diff: ShownDiff = _NO_DIFF,
) -> list[Notification]:
    """Return the messages that announce a transition.

    Args:
        names: All agents of the hive.
        was_asked: The decider that the proposal waited for before.
        diff: The beginning of the diff, and its full size in bytes.
    """
    data = transition.data
    if transition.marker or data.state is State.BUILT:
        if data.waits_for is None:
            return []
        to = MANAGER if data.waits_for == "manager" else OPERATOR
        if transition.marker:
            return [(to, endorsed(data, transition.by.label, transition.commit))]
        return [(to, review(data, transition.commit, diff))]
    if data.state is State.PROPOSAL:
        return _permission_notifications(transition, names)
    if data.kind == "rebuild":
        return _rebuild_notifications(transition, names)
    if data.state is State.DEPLOYED:
        return [(name, deployed(data)) for name in _recipients(data, names)]
    if data.state is State.FAILED:
        recipients = _recipients(data, names) if data.approvals else [name_from_label(data.by)]
        return [(name, failed(data)) for name in recipients]
    if data.state is State.DENIED:
        return [(name_from_label(data.by), denied(data, transition.by.label))]
    if data.state is State.WITHDRAWN:
        text = withdrawn(data, transition.by.label)
        return [(name, text) for name in asked(data.by, was_asked) if name != transition.by.name]
    return []


def _permission_notifications(transition: Transition, names: Collection[str]) -> list[Notification]:
    """Return the message about a permission for fetches: to the proposer, unless that is the operator, who gave it."""
    data, to = transition.data, name_from_label(transition.data.by)
    permission = data.allowed_fetches
    if permission is None or permission.number != data.number:
        return []
    if not _is_known(to, names) or to in (OPERATOR, transition.by.name):
        return []
    return [(to, fetches_allowed(data))]


def _rebuild_notifications(transition: Transition, names: Collection[str]) -> list[Notification]:
    """Return the messages about the end of a rebuild: to the party that asked for it; failures also to the manager.

    Without a manager the operator is told of failures. An operator who asked sees the result at once. The agent is not
    told, because its configuration stays the same.
    """
    data, asked_for = transition.data, name_from_label(transition.data.by)
    people = {asked_for}
    if data.state is State.DEPLOYED:
        text = deployed(data)
    elif data.state is State.FAILED:
        text = failed(data)
        people.add(MANAGER if MANAGER in names else OPERATOR)
    elif data.state is State.WITHDRAWN:
        text = withdrawn(data, transition.by.label)
    else:
        return []
    told = people - {transition.by.name, asked_for if is_operator(asked_for) else ""}
    return [(name, text) for name in sorted(told) if _is_known(name, names)]


def _recipients(data: ProposalFields, names: Collection[str]) -> list[str]:
    """Return the recipients of the result: the proposer, the manager if it approved, and the agent if it goes on.

    An agent that is new or removed is not told, nor an operator who proposed something other than a configuration and
    sees the result at once.
    """
    people = [name_from_label(data.by), *(name for name in map(name_from_label, data.approvals) if name == MANAGER)]
    if data.kind in ("config", "rollback"):
        people.append(data.agent)
    proposer = name_from_label(data.by)
    at_once = data.kind != "config" and is_operator(proposer)
    return [name for name in dict.fromkeys(people) if _is_known(name, names) and not (at_once and name == proposer)]


def _is_known(name: str, names: Collection[str]) -> bool:
    return name in names or is_operator(name)
