"""The demo's second part: two agents propose changes of themselves; one is approved and deployed, one is denied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import job
import view
from daemon import Daemon
from failure import DemoFailed
from job import Flow, Job


@dataclass(frozen=True)
class Act:
    """One proposal: who is asked for it, with which words, and how it has to end."""

    title: str
    agent: str
    wish: str
    ends: str


RESTRAINED = Act(
    "ada changes itself, and hm1nd agrees",
    "ada",
    "Please write to nobody but hm1nd and me from now on.",
    "deployed",
)
DENIED = Act(
    "bob wants more than it needs, and hm1nd does not agree",
    "bob",
    "Could you check the prices yourself?",
    "denied",
)


def play(daemon: Daemon, flow: Flow, limit: float, act: Act) -> str:
    """Show a proposal, at most `limit` seconds long; how it ended, in words. Fails if it ended otherwise."""
    view.heading(act.title)
    job.watch(daemon, flow, Job(job.ask(daemon, act.agent, act.wish), act.agent), limit)
    (newest,) = daemon.client.get("/v1/proposals", {"agent": act.agent, "state": "all", "limit": 1})["proposals"]
    if newest["state"] != act.ends:
        why = f"{_name(newest)} is {newest['state']}, not {act.ends}: {newest['outcome']}"
        raise DemoFailed(why, daemon.agent_log(act.agent))
    return _in_words(newest)


def _in_words(proposal: dict[str, Any]) -> str:
    if proposal["state"] == "denied":
        return f"{_name(proposal)} denied: {proposal['outcome']}"
    return f"{_name(proposal)} {proposal['state']}, approved by {', '.join(proposal['approvals'])}"


def _name(proposal: dict[str, Any]) -> str:
    return f"{proposal['agent']}/{proposal['number']}"
