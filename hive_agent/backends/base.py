"""What a harness asks of a backend, and what a turn can end with."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hive_agent.client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import Role
from hive_core.protocol import Backend as BackendName
from hive_core.protocol import Delivery, Profile


@dataclass(frozen=True)
class Turn:
    """Messages to be handled together, oldest first; at least one."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True)
class Ok:
    """The messages were handled and may be acknowledged."""


@dataclass(frozen=True)
class Failed:
    """The messages were not (all) handled. `kind` is for programs, `detail` for people."""

    kind: str
    detail: str


@dataclass(frozen=True)
class NeedsLogin:
    """The backend's program has no valid credentials; `detail` is what it said."""

    detail: str


TurnOutcome = Ok | Failed | NeedsLogin


class Backend(Protocol):
    """Handles turns, one at a time."""

    async def run(self, turn: Turn) -> TurnOutcome:
        """Handle the turn's messages. When cancelled, stop all that was started for it before returning."""

    async def close(self) -> None:
        """Release everything; no turn is running."""


@dataclass(frozen=True)
class BackendContext:
    """What a backend is made from. `instance` is the harness's, under which the turn's messages are leased."""

    profile: Profile
    environment: AgentEnvironment
    role: Role
    client: CoreClient
    instance: str


class _Module(Protocol):
    def open_backend(self, context: BackendContext) -> Backend: ...


_MODULES: Mapping[BackendName, str] = {
    "scripted": "hive_agent.backends.scripted",
    "claude": "hive_agent.backends.claude",
}


def open_backend(context: BackendContext) -> Backend:
    """The backend that the agent's configuration names; only its module is loaded."""
    module: _Module = importlib.import_module(_MODULES[context.profile.config.backend])
    return module.open_backend(context)
