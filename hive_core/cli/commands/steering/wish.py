"""A wish that an agent has been given, followed until its work can be decided on or it has given up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.work.work_names import Answer, state_word, work_name
from hive_core.cli.errors import Failure
from hive_core.cli.events import Item, parse
from hive_core.cli.output import describe_crash, quoted
from hive_core.cli.waiting import login_hint

_RETRY_SECONDS = 0.5
_SILENCE_SECONDS = 30.0
"""Longest time without a look: events may be lost where they come faster than they are read."""
_FAILURES = 3
"""Failed turns after which the agent is not waited for: it goes on trying by itself."""
_UNDER_WAY = frozenset({"proposal", "building", "approved"})
_NEWEST = 20


@dataclass(frozen=True)
class Wish:
    """The message `asked` to `agent` about `repo`, whose newest work was `before` at that time."""

    agent: str
    repo: str
    asked: int
    before: int


def follow_wish(client: Client, wish: Wish, say: Callable[[str], None]) -> Answer:
    """Wait for the work, also across a restart of the daemon, and return it once it is checked or has landed.

    `say` gets each new state of the work and each failure of a turn. Raises Failure if the agent cannot go on, or has
    ended without work that passes.
    """
    followed = _FollowedWish(client, wish, say)
    with _watch_events(client, wish) as happened:
        while True:
            try:
                work = followed.look()
                if work is not None:
                    return work
            except Failure as failure:
                if not failure.transient:
                    raise
                time.sleep(_RETRY_SECONDS)
                continue
            happened.wait(_SILENCE_SECONDS)
            happened.clear()


class _FollowedWish:
    """A wish with what is known of it so far."""

    def __init__(self, client: Client, wish: Wish, say: Callable[[str], None]) -> None:
        self._client = client
        self._wish = wish
        self._say = say
        self._told = ""
        self._failures = 0
        self._was = ""

    def look(self) -> Answer | None:
        """Return the work if it is checked or has landed, else None. Raises Failure."""
        wish, client = self._wish, self._client
        # The work is read before the agent: a failed check is in the agent's queue before the work shows it.
        work = _newest_work(client, wish)
        status = client.get(agent_path(wish.agent))
        reply = client.get(f"/v1/messages/{wish.asked}/reply", {"wait_seconds": "0"})
        if work is not None and (now := f"{work_name(work)}: {state_word(str(work['state']))}") != self._told:
            self._told = now
            self._say(f"{now}{_why(work)}")
        if work is not None and (work["state"] == "deployed" or _waits(work)):
            return work
        state = str(status.get("state"))
        if state == "failed" and self._was != "failed":
            self._failures += 1
            self._say(f"the turn failed: {quoted(status.get('detail'))}")
        self._was = state
        _check_agent(wish, status, self._failures)
        is_over = state == "idle" and not status.get("unacked") and (reply.get("handled") or reply.get("reply"))
        if is_over and (work is None or work["state"] not in _UNDER_WAY):
            raise _gave_up(wish, work, reply)
        return None


@contextmanager
def _watch_events(client: Client, wish: Wish) -> Iterator[threading.Event]:
    """Read the daemon's events in a thread; what this yields is set whenever one concerns the wish."""
    happened, ended = threading.Event(), threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                with client.stream("/v1/events", None, {"Accept": "text/event-stream"}) as lines:
                    happened.set()  # This stream has nothing of what happened before.
                    for item in parse(lines):
                        if ended.is_set():
                            return
                        if _concerns(wish, item):
                            happened.set()
            except Failure:
                pass  # The requests about the wish say what is wrong with the daemon.
            ended.wait(_RETRY_SECONDS)

    threading.Thread(target=read, daemon=True).start()
    try:
        yield happened
    finally:
        ended.set()


def _concerns(wish: Wish, item: Item) -> bool:
    """Return True for an event of the agent, or of work for the repository."""
    try:
        data = json.loads(item.data).get("data", {})
        return wish.agent in (data.get("agent"), data.get("sender")) or wish.repo == data.get("repo")
    except (ValueError, AttributeError):
        return False


def _newest_work(client: Client, wish: Wish) -> Answer | None:
    query = {"repo": wish.repo, "state": "all", "limit": _NEWEST}
    found: list[Answer] = client.get("/v1/work", query).get("work", [])
    mine = (each for each in found if each.get("by") == wish.agent and int(each["number"]) > wish.before)
    return next(mine, None)


def _waits(work: Answer) -> bool:
    return work["state"] == "built" and work.get("waits_for") is not None


def _why(work: Answer) -> str:
    return f", {quoted(work['outcome'])}" if work.get("outcome") else ""


def waiting_wish(asked: int) -> str:
    """Say that the wish is not lost with the agent's inability to begin."""
    return f"your wish waits for it as message {asked}, so there is no need to repeat it"


def _check_agent(wish: Wish, status: Answer, failures: int) -> None:
    """Raise Failure if the agent cannot go on without a person."""
    name, state = wish.agent, status.get("state")
    detail, waits = quoted(status.get("detail")), waiting_wish(wish.asked)
    if state == "needs_login":
        raise Failure("not_ready", f"{name} needs a login: {detail}; {waits}", hint=login_hint(name))
    if state == "paused":
        hint = f'"hive-c0re resume {name}" lets it go on; "hive-c0re show {name}" says more'
        raise Failure("not_ready", f"{name} is paused: {detail}; {waits}", hint=hint)
    if state == "budget":
        hint = f'"hive-c0re budget {name}" shows it, "hive-c0re budget {name} --add 5" adds to it'
        raise Failure("not_ready", f"{name} has no budget for a call: {detail}; {waits}", hint=hint)
    if failures >= _FAILURES:
        hint = f'it goes on trying: "hive-c0re transcript {name}" shows what happens, "hive-c0re skip {name}" ends it'
        raise Failure("not_ready", f"{failures} turns of {name} have failed: {detail}", hint=hint)
    lifecycle = status.get("lifecycle")
    if lifecycle in ("failed", "stopped"):
        cause = describe_crash(status) or status.get("exit_cause") or "no reason given"
        raise Failure("not_running", f"{name} is {lifecycle}: {cause}", hint=f'look with "hive-c0re logs {name}"')


def _gave_up(wish: Wish, work: Answer | None, reply: Answer) -> Failure:
    name = wish.agent
    said = reply.get("reply")
    words = f"; it says {quoted(said.get('body'))}" if isinstance(said, dict) else ""
    hint = f'ask for more: hive-c0re run {wish.repo} "..." --agent {name}; see "hive-c0re transcript {name}"'
    if work is None:
        return Failure("no_work", f"{name} has ended its turn without submitting work{words}", hint=hint)
    what = f"{work_name(work)} is {state_word(str(work['state']))}{_why(work)}"
    return Failure("no_work", f"{what}, and {name} has ended its turn without submitting more{words}", hint=hint)
