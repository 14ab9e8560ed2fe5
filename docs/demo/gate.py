"""The demo's second half: two agents propose changes of themselves; one is approved and deployed, one is denied."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import job
import view
from daemon import Daemon
from failure import DemoFailed
from job import Flow, Job

_GIT_SECONDS = 30.0
_SHOWN_LINES = 15


@dataclass(frozen=True)
class Act:
    """One proposal: who is asked for it, with which words, and how it has to end."""

    title: str
    agent: str
    wish: str
    ends: str


ACTS = (
    Act(
        "ada changes itself, and hm1nd agrees",
        "ada",
        "bob had to ask you for numbers. Please see to it that your next drafts have them at once.",
        "deployed",
    ),
    Act(
        "bob wants more than it needs, and hm1nd does not agree",
        "bob",
        "Could you check the numbers in a draft yourself?",
        "denied",
    ),
)


def play(daemon: Daemon, flow: Flow, limit: float) -> list[str]:
    """Show every act, each at most `limit` seconds long; how each ended, in words. Fails if one ends otherwise."""
    ends = []
    for act in ACTS:
        view.heading(act.title)
        job.watch(daemon, flow, Job(job.ask(daemon, act.agent, act.wish), act.agent), limit)
        (newest,) = daemon.client.get("/v1/proposals", {"agent": act.agent, "state": "all", "limit": 1})["proposals"]
        if newest["state"] != act.ends:
            why = f"{_name(newest)} is {newest['state']}, not {act.ends}: {newest['outcome']}"
            raise DemoFailed(why, daemon.agent_log(act.agent))
        ends.append(_in_words(newest))
    return ends


def history(daemon: Daemon) -> None:
    """Show what plain git tells of it."""
    view.heading("Plain git tells the same")
    for line in _git_commands(daemon.layout.applied):
        view.shell(*line)
        done = subprocess.run(  # noqa: S603 - our own words
            line,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=_env(),
        )
        if done.returncode != 0:
            raise DemoFailed(f"`{' '.join(line[:4])}` failed", done.stderr.splitlines())
        said = done.stdout.splitlines()
        view.log(said[:_SHOWN_LINES])
        if len(said) > _SHOWN_LINES:
            view.log(["..."])


def look_at_it(applied: Path) -> list[str]:
    """What to type to look at it, beside the hive's own commands."""
    return [" ".join(line) for line in _git_commands(applied)]


def _git_commands(applied: Path) -> Sequence[Sequence[str]]:
    return (
        ("git", "-C", str(applied / "ada.git"), "log", "--oneline", "--decorate", "main"),
        ("git", "-C", str(applied / "bob.git"), "show", "denied/1"),
    )


def _env() -> dict[str, str]:
    """Git as its user has it, but for a pager and for a repository that the environment may name."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {"GIT_PAGER": "cat"}


def _in_words(proposal: dict[str, Any]) -> str:
    if proposal["state"] == "denied":
        return f"{_name(proposal)} denied: {proposal['outcome']}"
    return f"{_name(proposal)} {proposal['state']}, approved by {', '.join(proposal['approvals'])}"


def _name(proposal: dict[str, Any]) -> str:
    return f"{proposal['agent']}/{proposal['number']}"
