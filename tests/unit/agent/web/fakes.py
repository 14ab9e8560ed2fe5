"""Fakes of what the page talks to: the harness's controls and the daemon, both in memory and told what to do."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hive_agent.backends.transcript import Entry, as_json
from hive_agent.client.connection import CoreError
from hive_agent.environment import AgentEnvironment
from hive_agent.interfaces import ActionNotPossible, Snapshot, TurnSummary
from hive_agent.web.feed import Feed
from hive_agent.web.serving import serve_page
from hive_core.api.lent_sockets import PagePorts, UnixSockets
from hive_core.errors import HiveError
from hive_core.protocol import (
    AgentConfig,
    Effort,
    Inbox,
    InboxMessage,
    OpenItems,
    PageSession,
    Profile,
    Proposal,
    Question,
    Reminder,
    SendAnswer,
)

TICKET = "t" * 43
MORNING = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def summary(number: int, state: Any = "ok", **values: Any) -> TurnSummary:
    """A turn, as lists show it."""
    ended = None if state in ("running", "waiting", "held") else MORNING.timestamp() + number * 60 + 42
    turn = TurnSummary(
        id=number,
        attempt=1,
        state=state,
        started_at=MORNING.timestamp() + number * 60,
        ended_at=ended,
        next_try_at=None,
        messages=[number],
        senders=["operator"],
        words=f"the words of {number}",
        failure=None,
        detail="",
        tool_calls=2,
        tokens_in=12_345,
        tokens_out=678,
        cost_usd=0.07,
    )
    turn.update(values)  # type: ignore[typeddict-item]
    return turn


CONTROL_KEY = "the daemon's"


class FakeControls:
    """A harness that does nothing by itself. What was asked of it is in `calls`; `refuse` makes all of that fail."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.turns: dict[int, TurnSummary] = {}
        self.entries: dict[int, list[dict[str, Any]]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.called = asyncio.Event()
        self.refuse: str | None = None
        self.code = "right"
        self.standing = Snapshot(
            name="alice",
            kind="agent",
            backend="claude",
            deployment=3,
            state="idle",
            detail="",
            model="claude-sonnet-4-5",
            effort="high",
            models=["claude-sonnet-4-5", "claude-opus-4-1"],
            warm=True,
            context=68_000,
            window=200_000,
            turn=None,
            activity="",
            held=[],
            turns=0,
            tokens_in=1_234_567,
            tokens_out=45_678,
            cost_usd=3.2,
            paused=False,
            login=None,
        )

    # --- what a test does -------------------------------------------------------------------------------------

    def stand(self, **values: Any) -> None:
        """Change how things stand, and tell it."""
        self.standing.update(values)  # type: ignore[typeddict-item]
        self.feed.publish("snapshot", self.standing)

    def turn(self, number: int, state: Any = "running", *, quietly: bool = False, **values: Any) -> None:
        """A turn begins or changes."""
        turn = summary(number, state, **values)
        self.turns[number] = turn
        self.entries.setdefault(number, [])
        self.standing["turn"] = turn if state in ("running", "waiting") else None
        self.standing["held"] = [other for other in self.turns.values() if other["state"] == "held"]
        if not quietly:
            self.feed.publish("turn", turn)

    def tell(self, number: int, *entries: Entry, quietly: bool = False) -> None:
        """Something happens in a turn."""
        for entry in entries:
            told = self.entries[number]
            event = {"turn": number, "attempt": self.turns[number]["attempt"], "n": len(told) + 1, **as_json(entry)}
            told.append(event)
            if not quietly:
                self.feed.publish("entry", event)

    async def until(self, true: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until a call made `true` so."""
        async with asyncio.timeout(seconds):
            while not true():
                self.called.clear()
                await self.called.wait()

    # --- Controls -----------------------------------------------------------------------------------------------

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        self.called.set()
        if self.refuse is not None:
            raise ActionNotPossible(self.refuse)

    def snapshot(self) -> Snapshot:
        return self.standing

    def control_key(self) -> str:
        return CONTROL_KEY

    async def pause(self) -> None:
        self._note("pause")

    async def resume(self) -> None:
        self._note("resume")

    async def go_on(self) -> None:
        self._note("go on")

    async def history(self, before: int | None, limit: int) -> Sequence[TurnSummary]:
        newest = sorted(self.turns, reverse=True)
        return [self.turns[number] for number in newest if before is None or number < before][:limit]

    async def transcript(self, turn: int) -> Sequence[dict[str, Any]]:
        return self.entries.get(turn, [])

    async def cancel(self) -> None:
        self._note("cancel")

    async def retry(self, turn: int) -> None:
        self._note("retry", turn)

    async def skip(self, turn: int) -> None:
        self._note("skip", turn)

    async def compact(self) -> None:
        self._note("compact")

    async def new_session(self) -> None:
        self._note("new_session")

    async def choose(self, model: str | None, effort: Effort | None) -> None:
        self._note("choose", model, effort)
        self.stand(model=model, effort=effort)

    async def log_in(self) -> str:
        self._note("log_in")
        url = "https://login.example/authorize?code=true&client_id=9d1c250a"
        self.stand(login=url)
        return url

    async def give_code(self, code: str) -> None:
        self._note("give_code", code)
        if code != self.code:
            raise ActionNotPossible("the code was not taken: OAuth error: Invalid code")
        self.stand(login=None, state="idle")


@dataclass
class FakeDaemonApi:
    """A daemon with one agent, one ticket and any number of sessions."""

    tickets: set[str] = field(default_factory=lambda: {TICKET})
    sessions: dict[str, str] = field(default_factory=dict)
    lives: float = 3_600.0
    sent: list[tuple[str, int | None, str]] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    checks: int = 0
    away: bool = False
    deaf: bool = False
    """Messages arrive, but nobody hears so."""
    messages: list[InboxMessage] = field(default_factory=list)
    open: OpenItems = field(default_factory=lambda: OpenItems(questions=[], reminders=[], proposals=[]))
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def _session(self, token: str) -> PageSession:
        if self.away:
            raise CoreError("unreachable", "no answer on core.sock", "is hive-c0re running?")
        if token not in self.sessions:
            raise CoreError("bad_session", "the session is not good", status=403)
        return PageSession(session=token, user=self.sessions[token], expires_in=self.lives)

    async def until(self, true: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until a call made `true` so."""
        async with asyncio.timeout(seconds):
            while not true():
                self.happened.clear()
                await self.happened.wait()

    async def page_enter(self, ticket: str) -> PageSession:
        if ticket not in self.tickets:
            raise CoreError("bad_ticket", "the ticket is not good (any more)", "ask for another", 403)
        self.tickets.remove(ticket)
        token = secrets.token_urlsafe(32)
        self.sessions[token] = "root"
        return self._session(token)

    async def page_check(self, session: str) -> PageSession:
        self.checks += 1
        return self._session(session)

    async def page_send(self, session: str, body: str, *, key: str, reply_to: int | None = None) -> SendAnswer:
        self._session(session)
        self.sent.append((body, reply_to, key))
        self.happened.set()
        if self.deaf:
            raise CoreError("unreachable", "no answer on core.sock", "is hive-c0re running?")
        return SendAnswer(id=100 + len(self.sent), recipients=["alice"])

    async def page_answer(self, session: str, question: int, text: str) -> Question:
        self._session(session)
        self.answers.append((question, text))
        found = next(one for one in self.open.questions if one.id == question)
        self.open.questions.remove(found)
        self.happened.set()
        return found.model_copy(update={"state": "answered", "answer": text})

    async def inbox(self, limit: int) -> Inbox:
        return Inbox(messages=self.messages[:limit], total=len(self.messages))

    async def open_items(self) -> OpenItems:
        return self.open

    # --- what a test puts in ------------------------------------------------------------------------------------

    def wait(self, number: int, body: str, sender: str = "operator", *, leased: bool = False) -> None:
        """A message waits for the agent."""
        self.messages.append(
            InboxMessage(
                id=number, sender=sender, body=body[:2_000], characters=len(body), sent_at=MORNING, leased=leased
            )
        )

    def ask(self, number: int, text: str, *options: str) -> None:
        """The agent has a question."""
        self.open.questions.append(
            Question(
                id=number,
                agent="alice",
                text=text,
                options=list(options),
                free_text=True,
                asked_at=MORNING,
                expires_at=None,
                state="open",
                answer=None,
                answered_by=None,
                ended_at=None,
            )
        )

    def remind(self, text: str) -> None:
        """The agent has a reminder."""
        self.open.reminders.append(Reminder(id=1, agent="alice", at=MORNING, text=text, created_at=MORNING))

    def propose(self, note: str) -> None:
        """The agent has a proposal."""
        self.open.proposals.append(
            Proposal(
                agent="alice",
                number=4,
                kind="config",
                state="built",
                by="alice",
                note=note,
                commit="0" * 40,
                base=None,
                closure=None,
                waits_for="manager",
                approvals=[],
                outcome="",
                created_at=MORNING,
                changed_at=MORNING,
                expires_at=None,
            )
        )


@dataclass
class Served:
    """A page that is served, and what is behind it. `port` is None if it has only its socket."""

    views: UnixSockets
    feed: Feed
    controls: FakeControls
    hive: FakeDaemonApi
    run: Path
    port: int | None

    @property
    def socket(self) -> Path:
        return self.run / "views" / "alice.sock"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """What `hive-c0re open` prints; good once."""
        self.hive.tickets.add(TICKET)
        return f"{self.url}/enter#{TICKET}"


@asynccontextmanager
async def served(
    run: Path, port: int | str | None = None, feed: Feed | None = None, hive: FakeDaemonApi | None = None
) -> AsyncIterator[Served]:
    """Serve alice's page from `run`, with the sockets of a daemon: the view socket is in its `views`."""
    (run / "views").mkdir(exist_ok=True)
    variables = {} if port is None else {"HIVE_AGENT_PORT": str(port)}
    environment = AgentEnvironment.read({"HIVE_AGENT_RUN": str(run), **variables})
    profile = Profile(name="alice", kind="agent", config=AgentConfig(), prompt="", deployment=3, lease_seconds=60.0)
    feed = feed or Feed()
    views = UnixSockets(
        "view socket", lambda name: run / "views" / f"{name}.sock", lambda _: run / "view.sock", 0o600, None
    )
    number = port if isinstance(port, int) else None
    page = Served(views, feed, FakeControls(feed), hive or FakeDaemonApi(), run, number)
    ports = PagePorts(lambda _: run / "page.sock")
    try:
        views.hold("alice")
        if page.port is not None:
            with contextlib.suppress(HiveError):
                ports.hold("alice", page.port)
        async with serve_page(page.controls, feed, page.hive, environment, profile):
            yield page
    finally:
        ports.close()
        views.close()
