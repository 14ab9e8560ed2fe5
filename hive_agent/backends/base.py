"""What a harness asks of a backend, and what a turn can end with."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hive_agent.backends.transcript import EntrySink
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import Role
from hive_core.protocol import Backend as BackendName
from hive_core.protocol import Delivery, Effort, Profile

FailureKind = Literal[
    "rate_limit",  # the model's API wants us to wait
    "overloaded",  # the model's API cannot serve now, or is not reached
    "billing",  # nobody pays for the model
    "too_long",  # the conversation does not fit into the model's window
    "refused",  # the API refused the request for another reason
    "no_tools",  # an MCP server that the turn needs did not start
    "no_program",  # the agent CLI is not installed, or cannot be started
    "config",  # what agent.toml asks for cannot be done
    "crashed",  # the agent CLI ended without a result
    "hung",  # the agent CLI says nothing any more
    "timeout",  # turn_timeout
    "steps",  # max_steps
    "cancelled",  # a person stopped the turn
    "internal",  # the backend broke
    "core",  # the hive refused a call of the harness
]


@dataclass(frozen=True)
class Turn:
    """Messages to be handled together, oldest first; at least one.

    `id` is the same for every `attempt` (1 for the first). An attempt above 1 goes on in the CLI's own conversation,
    which may already hold the turn's prompt. `more` fetches messages that came meanwhile, for this turn; a backend that
    can put them into a running turn calls it when the model is about to end the turn.
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
    """The messages were not (all) handled. `detail` is for people; `retry_after` is what the API asked for, seconds."""

    kind: FailureKind
    detail: str
    retry_after: float | None = None


@dataclass(frozen=True)
class NeedsLogin:
    """The backend's program has no valid credentials; `detail` is what it said."""

    detail: str


TurnOutcome = Ok | Failed | NeedsLogin


@dataclass(frozen=True)
class Choice:
    """Which model is asked, and how long it may think; None: the backend's own default."""

    model: str | None = None
    effort: Effort | None = None


class Login(Protocol):
    """A login under way: a person opens `url` and gives back the code that it shows.

    A turn may run meanwhile. A backend that keeps a process has to be opened anew to use the new credentials.
    """

    url: str

    async def give(self, code: str) -> None:
        """Hand the pasted code to the program. Raises LoginFailed with what it said if it is not taken."""

    async def close(self) -> None:
        """End the program, whatever came of it."""


class LoginFailed(Exception):
    """The program did not log in; the text is for people."""


class Backend(Protocol):
    """Handles turns, one at a time; nothing else is asked of it while a turn runs, but to be cancelled."""

    @property
    def models(self) -> Sequence[str]:
        """Names to choose from, where the backend knows some; others may work."""

    async def run(self, turn: Turn, tell: EntrySink) -> TurnOutcome:
        """Handle the turn's messages, and tell what happens meanwhile.

        When cancelled, stop all that was started for it before returning; the conversation can be gone on with.
        """

    async def compact(self, tell: EntrySink, focus: str = "") -> TurnOutcome:
        """Shorten the conversation. Ok also where there is nothing to shorten."""

    async def new_session(self) -> None:
        """Forget the conversation: the next turn begins one."""

    async def choose(self, choice: Choice) -> None:
        """What the next turn is asked with."""

    async def log_in(self) -> Login:
        """Begin a login. Raises LoginFailed if the program has none that can be done here."""

    async def logged_in(self) -> bool:
        """Whether the program has credentials, as far as can be told without asking the model."""

    @property
    def warm(self) -> bool:
        """Whether a process is kept for the next turn."""

    async def close(self) -> None:
        """Release everything; no turn is running."""


@dataclass(frozen=True)
class BackendContext:
    """What a backend is made from. `instance` is the harness's, under which the turn's messages are leased.

    `changed` is to be called when `warm` changes by itself, while nothing is asked of the backend.
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
    """The backend that the agent's configuration names; only its module is loaded."""
    module: _Module = importlib.import_module(_MODULES[context.profile.config.backend])
    return module.open_backend(context)
