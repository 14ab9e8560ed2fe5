"""The interface between the harness and its page: state and actions for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypedDict

from hive_core.protocol import Effort


class ActionNotPossible(Exception):
    """The action is not possible in the current state; the text says why and what to do."""


class TurnSummary(TypedDict):
    """A turn in a list. Times are seconds since 1970; `ended_at` is None while it runs or waits."""

    id: int
    attempt: int
    state: Literal["running", "waiting", "held", "ok", "failed", "skipped"]
    """`waiting`: retried automatically at `next_try_at`; `held`: the operator has to retry or skip it."""
    started_at: float
    ended_at: float | None
    next_try_at: float | None
    messages: list[int]
    senders: list[str]
    words: str
    """The first words of its first message."""
    failure: str | None
    """The `FailureKind`, or `needs_login`."""
    detail: str
    tool_calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None


class Snapshot(TypedDict):
    """The current state of the harness."""

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
    """The running turn, or the one that is retried next."""
    activity: str
    """The present step of the running turn, in one line of its model's words."""
    held: list[TurnSummary]
    turns: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    paused: bool
    """The operator has paused the agent: no turn begins until it is resumed."""
    login: str | None
    """The address to open, while a login is in progress."""


class Controls(Protocol):
    """All methods may be called at any time, from the event loop that the harness runs in."""

    def snapshot(self) -> Snapshot:
        """The current state."""

    def control_key(self) -> str:
        """The key by which the daemon names itself; empty if it gave none."""

    async def history(self, before: int | None, limit: int) -> Sequence[TurnSummary]:
        """List turns with an id below `before` (None: the newest), the newest first."""

    async def transcript(self, turn: int) -> Sequence[dict[str, Any]]:
        """The entries of a turn's transcript, as they were published; empty if there is no such turn."""

    async def cancel(self) -> None:
        """Stop the running turn; it is then held. Raises ActionNotPossible if none runs."""

    async def pause(self) -> None:
        """Begin no turn any more, also after restarts; a running turn goes on to its end."""

    async def resume(self) -> None:
        """End the pause, also one after a failure. Raises ActionNotPossible if there is none."""

    async def go_on(self) -> None:
        """End the pause if the hive has refused calls of the model; otherwise nothing happens."""

    async def retry(self, turn: int) -> None:
        """Retry a waiting or held turn now. Raises ActionNotPossible."""

    async def skip(self, turn: int) -> None:
        """End a waiting or held turn: its messages count as handled. Raises ActionNotPossible."""

    async def compact(self) -> None:
        """Compact the conversation before the next turn. Raises ActionNotPossible if there is no conversation."""

    async def new_session(self) -> None:
        """Start a new conversation with the next turn."""

    async def choose(self, model: str | None, effort: Effort | None) -> None:
        """Use this model from the next turn on, also after restarts. None resets it to agent.toml."""

    async def log_in(self) -> str:
        """Start a login; returns the address that the operator has to open. Raises ActionNotPossible."""

    async def give_code(self, code: str) -> None:
        """Submit the pasted code. Raises ActionNotPossible with the program's message if it is rejected."""
