"""Whom the hive tells of a transition, and what: the same when it happens and when it is made up for after a crash."""

from __future__ import annotations

from collections.abc import Collection

from hive_core.gate import notifications
from hive_core.gate.parties import asked, name_in
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import TagData
from hive_core.gate.records.transitions import Notice, Step
from hive_core.protocol import Decider
from hive_core.protocol.names import MANAGER, OPERATOR


def told(
    step: Step, names: Collection[str], *, was_asked: Decider | None = None, diff: tuple[str, int] = ("", 0)
) -> list[Notice]:
    """The messages that go with a step. `names` are the agents that there are, `was_asked` whose decision the proposal
    waited for before, `diff` the beginning of what it changes and the size of all of it.
    """
    data = step.data
    if step.fact or data.state is State.BUILT:
        if data.waits_for is None:
            return []
        to = MANAGER if data.waits_for == "manager" else OPERATOR
        if step.fact:
            return [(to, notifications.endorsed(data, step.by.label, step.commit))]
        return [(to, notifications.review(data, step.commit, *diff))]
    if data.kind == "rebuild":
        return _of_rebuild(step, names)
    if data.state is State.DEPLOYED:
        return [(name, notifications.deployed(data)) for name in _concerned(data, names)]
    if data.state is State.FAILED:
        concerned = _concerned(data, names) if data.approvals else [name_in(data.by)]
        return [(name, notifications.failed(data)) for name in concerned]
    if data.state is State.DENIED:
        return [(name_in(data.by), notifications.denied(data, step.by.label))]
    if data.state is State.WITHDRAWN:
        text = notifications.withdrawn(data, step.by.label)
        return [(name, text) for name in asked(data.by, was_asked) if name != step.by.name]
    return []


def _of_rebuild(step: Step, names: Collection[str]) -> list[Notice]:
    """How it ended, to who asked for it unless they see that at once; and what failed to who looks after the hive. Not
    to the agent, of whose configuration nothing has changed.
    """
    data, asked_for = step.data, name_in(step.data.by)
    people = {asked_for}
    if data.state is State.DEPLOYED:
        text = notifications.deployed(data)
    elif data.state is State.FAILED:
        text = notifications.failed(data)
        people.add(MANAGER if MANAGER in names else OPERATOR)
    elif data.state is State.WITHDRAWN:
        text = notifications.withdrawn(data, step.by.label)
    else:
        return []
    known = {*names, OPERATOR} - {step.by.name, OPERATOR if asked_for == OPERATOR else ""}
    return [(name, text) for name in sorted(people & known)]


def _concerned(data: TagData, names: Collection[str]) -> list[str]:
    """Who proposed it, the manager if it agreed, and an agent that goes on: not one that is new or gone, nor an
    operator who did it at once and sees what comes of it.
    """
    people = [name_in(data.by), *(name for name in map(name_in, data.approvals) if name == MANAGER)]
    if data.kind in ("config", "rollback"):
        people.append(data.agent)
    at_once = data.kind != "config" and name_in(data.by) == OPERATOR
    known = {*names, OPERATOR} - ({OPERATOR} if at_once else set())
    return [name for name in dict.fromkeys(people) if name in known]
