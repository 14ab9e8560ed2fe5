"""The interface of a backend, and the outcomes of a turn."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from hive_agent.backends.transcript import EntrySink
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import Role
from hive_core.protocol import Backend as BackendName
from hive_core.protocol import Delivery, Effort, Profile

FailureKind = Literal[
    "rate_limit",  # the model's API asks to wait
    "overloaded",  # the model's API is overloaded or unreachable
    "billing",  # credit or payment is missing
    "budget",  # a budget of the hive's does not allow the call
    "stopped",  # the vendor refuses the hive's key, or so many calls that the hive passes none on
    "too_long",  # the conversation does not fit into the model's window
    "refused",  # the API refused the request for another reason
    "no_tools",  # a required MCP server did not start
    "no_program",  # the agent CLI is not installed, or cannot be started
    "shortage",  # the agent CLI cannot be started now: disk space, memory, processes or descriptors are lacking
    "config",  # a setting of agent.toml cannot be applied
    "crashed",  # the agent CLI exited without a result
    "hung",  # the agent CLI produces no more output
    "timeout",  # turn_timeout
    "steps",  # max_steps
    "lost_tools",  # the hive's tools did not answer, so what the model did with them has not happened
    "cancelled",  # the operator stopped the turn
    "interrupted",  # the harness ended during the turn, and not because the hive stopped it
    "internal",  # the backend raised an error
    "provider",  # the relay, or the vendor with the hive's key, refuses the agent's calls
    "core",  # the daemon refused a call of the harness
]


@dataclass(frozen=True)
class Turn:
    """Messages to be handled together, oldest first; at least one.

    `id` is the same for every `attempt` (1 for the first). An attempt above 1 continues the CLI's conversation, which
    may already contain the turn's prompt. `more` fetches new messages for this turn; a backend that can add messages to
    a running turn calls it when the model is about to end the turn.
    """

    deliveries: tuple[Delivery, ...]
    id: int = 0
    attempt: int = 1
    more: Callable[[], Awaitable[Sequence[Delivery]]] | None = None


@dataclass(frozen=True)
class Ok:
    """The messages were handled and may be acknowledged."""


@dataclass(frozen=True)
class Failed:
    """The messages were not (all) handled. `detail` is shown to people; `retry_after` are seconds, set by the API."""

    kind: FailureKind
    detail: str
    retry_after: float | None = None


@dataclass(frozen=True)
class NeedsLogin:
    """The agent CLI has no valid credentials; `detail` is its message."""

    detail: str


TurnOutcome = Ok | Failed | NeedsLogin


@dataclass(frozen=True)
class Choice:
    """The model and its effort; None stands for the backend's default."""

    model: str | None = None
    effort: Effort | None = None


class Login(Protocol):
    """A login in progress: the operator opens `url` and enters the code that it shows.

    A turn may run meanwhile. A backend that keeps a process must be reopened to use the new credentials.
    """

    url: str

    async def submit_code(self, code: str) -> None:
        """Pass the pasted code to the agent CLI. Raises LoginFailed with its message if it rejects the code."""

    async def close(self) -> None:
        """End the agent CLI."""


class LoginFailed(Exception):
    """The login failed; the text is shown to people."""


class Backend(Protocol):
    """Runs turns, one at a time. While a turn runs, the caller may only cancel it."""

    @property
    def models(self) -> Sequence[str]:
        """Known names of models; others may work."""

    async def run(self, turn: Turn, emit: EntrySink) -> TurnOutcome:
        """Handle the turn's messages, and emit the entries of its transcript.

        When cancelled, stop everything that was started for it before returning, and keep the conversation usable.
        """

    async def compact(self, emit: EntrySink, focus: str = "") -> TurnOutcome:
        """Compact the conversation. Ok also if there is nothing to compact."""

    async def new_session(self, *, notes: bool = False) -> None:
        """End the conversation: the next turn starts a new one; with `notes` its prompt contains the agent's notes."""

    async def return_to_session(self) -> None:
        """Continue the conversation again that the last `new_session` ended."""

    async def choose(self, choice: Choice) -> None:
        """Set the model and effort for the next turn."""

    async def log_in(self) -> Login:
        """Start a login. Raises LoginFailed if the agent CLI cannot be logged in here."""

    async def logged_in(self) -> bool:
        """Return whether the agent CLI has credentials, as far as is known without a call of the model."""

    async def find_problem(self) -> Failed | NeedsLogin | None:
        """Return what keeps every turn from working now, as far as is known without a call of the model; else None.

        That is a missing program, missing credentials, or a setting that cannot be applied.
        """

    @property
    def warm(self) -> bool:
        """Return whether a process is kept running for the next turn."""

    async def close(self) -> None:
        """Release all resources. No turn may be running."""


@dataclass(frozen=True)
class BackendContext:
    """The parts that a backend needs. `instance` is the harness instance to which the turn's messages are leased.

    `changed` must be called when `warm` changes outside a call of the backend.
    """

    profile: Profile
    environment: AgentEnvironment
    role: Role
    client: CoreClient
    instance: str
    changed: Callable[[], object] = lambda: None


class _Module(Protocol):
    def open_backend(self, context: BackendContext) -> Backend: ...


_MODULES: Mapping[BackendName, str] = {
    "scripted": "hive_agent.backends.scripted.backend",
    "claude": "hive_agent.backends.claude.backend",
    "opencode": "hive_agent.backends.one_shot.opencode",
    "codex": "hive_agent.backends.one_shot.codex",
    "gemini": "hive_agent.backends.one_shot.gemini",
}


def open_backend(context: BackendContext) -> Backend:
    """Open the backend that agent.toml names; only its module is loaded."""
    module: _Module = importlib.import_module(_MODULES[context.profile.config.backend])
    if context.profile.config.provider is not None:
        from hive_agent.client.model_access import use_relay  # noqa: PLC0415 - not every harness needs it

        profile, environment = use_relay(context.profile, context.environment)
        context = replace(context, profile=profile, environment=environment)
    return module.open_backend(context)
