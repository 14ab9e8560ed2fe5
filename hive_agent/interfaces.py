"""What a person can see of a harness and ask of it: the page's side of the harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypedDict

from hive_core.protocol import Effort


class ActionNotPossible(Exception):
    """The request does not fit what the harness is doing; the text says why and what to do."""


class TurnSummary(TypedDict):
    """A turn as lists show it. Times are seconds since 1970; `ended_at` is None while it runs or waits."""

    id: int
    attempt: int
    state: Literal["running", "waiting", "held", "ok", "failed", "skipped"]
    """`waiting`: tried again by itself at `next_try_at`; `held`: a person has to retry or skip it."""
    started_at: float
    ended_at: float | None
    next_try_at: float | None
    messages: list[int]
    senders: list[str]
    failure: str | None
    """The `FailureKind`, or `needs_login`."""
    detail: str
    tool_calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None


class Snapshot(TypedDict):
    """How things stand."""

    name: str
    kind: str
    backend: str
    deployment: int
    state: str
    detail: str
    model: str | None
    effort: Effort | None
    models: list[str]
    warm: bool
    context: int
    window: int
    turn: TurnSummary | None
    """The one that runs, or that is to be tried again."""
    held: list[TurnSummary]
    turns: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    login: str | None
    """The address to open, while a login is under way."""


class Controls(Protocol):
    """All methods may be called at any time, from the event loop that the harness runs in."""

    def snapshot(self) -> Snapshot:
        """How things stand now."""

    async def history(self, before: int | None, limit: int) -> Sequence[TurnSummary]:
        """Turns with an id below `before` (None: the newest), the newest first."""

    async def transcript(self, turn: int) -> Sequence[dict[str, Any]]:
        """What happened in one turn, as its events were published; empty if there is no such turn."""

    async def cancel(self) -> None:
        """Stop the running turn; it is then held. Raises ActionNotPossible if none runs."""

    async def retry(self, turn: int) -> None:
        """Try a turn that waits or is held now, in place. Raises ActionNotPossible."""

    async def skip(self, turn: int) -> None:
        """Give up a turn that waits or is held: its messages count as handled. Raises ActionNotPossible."""

    async def compact(self) -> None:
        """Shorten the conversation before the next turn. Raises ActionNotPossible if there is nothing to shorten."""

    async def new_session(self) -> None:
        """Begin a new conversation with the next turn."""

    async def choose(self, model: str | None, effort: Effort | None) -> None:
        """Ask this model from the next turn on; remembered over restarts. None goes back to agent.toml."""

    async def log_in(self) -> str:
        """Begin a login; the address that a person has to open. Raises ActionNotPossible."""

    async def give_code(self, code: str) -> None:
        """Hand over the pasted code. Raises ActionNotPossible with what the program said if it is not taken."""
