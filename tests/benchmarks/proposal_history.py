"""Giving an agent a past: an applied repository with many proposals, written as a stream for `git fast-import`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hive_core.gate.records import tag_message
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from tests.benchmarks.plain_git import git

_DEPLOYED = (State.PROPOSAL, State.BUILDING, State.BUILT, State.APPROVED, State.DEPLOYED)
_DENIED = (State.PROPOSAL, State.BUILDING, State.BUILT, State.DENIED)


def deployments(repository: Path, agent: str, count: int) -> None:
    """Add so many deployments after the spawn's, each of a commit of its own; `main` is the last one."""
    _import(repository, agent, count, _DEPLOYED)


def denials(repository: Path, agent: str, count: int) -> None:
    """Add so many proposals that were denied."""
    _import(repository, agent, count, _DENIED)


def _import(repository: Path, agent: str, count: int, states: Sequence[State]) -> None:
    stream = b"".join(_stream(git(repository, "rev-parse", "main"), agent, count, states))
    git(repository, "fast-import", "--quiet", feed=stream)
    # As the daemon leaves it: of its own, it packs refs and objects when there are many.
    git(repository, "repack", "-a", "-d", "-q")
    git(repository, "pack-refs", "--all", "--prune")


def _stream(base: str, agent: str, count: int, states: Sequence[State]) -> Iterator[bytes]:
    # The past: what was proposed within the last hour counts against an agent.
    start = int(time.time()) - 3_600 - count
    before = base
    for number in range(1, count + 1):
        who = b"%s <%s@hive> %d +0000" % (agent.encode(), agent.encode(), start + number)
        prompt, mark = f"You are {agent}. This is your prompt number {number}.\n".encode(), f":{number}"
        yield b"commit refs/heads/main\nmark %s\ncommitter %s\n%s" % (mark.encode(), who, _data(b"A change\n"))
        yield b"from %s\nM 100644 inline prompt.md\n%s" % (before.encode(), _data(prompt))
        for state in states:
            data = ProposalTag(agent, number, state, "config", agent, note=f"Change number {number}.", base=base)
            text = tag_message.format_message(data, agent).encode()
            yield b"tag %s/%d\nfrom %s\ntagger %s\n%s" % (state.encode(), number, mark.encode(), who, _data(text))
        if states[-1] is State.DEPLOYED:
            before = mark
    if states[-1] is not State.DEPLOYED:
        yield b"reset refs/heads/main\nfrom %s\n\n" % base.encode()


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
