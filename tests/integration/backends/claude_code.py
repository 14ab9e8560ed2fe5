"""The backend claude with the real Claude Code, which the wheel of the extra `claude` carries."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from hive_agent.backends.base import Backend, BackendContext, Turn, open_backend
from hive_agent.backends.claude.command import find_program
from hive_agent.backends.cli_launch import ProgramNotFound
from hive_agent.backends.transcript import Entry
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import AGENT, Role
from hive_core.protocol import AgentConfig, AgentRepository, Delivery, Profile
from tests.helpers.fake_messages_api import Blocks, Brain, Text, ToolUse, has_tool_result
from tests.unit.agent.fake_core_api import FakeCore

INSTANCE = "0000-instance"
MODEL = "claude-sonnet-4-5-20250929"
Kind = TypeVar("Kind", bound=Entry)


def _is_missing() -> bool:
    try:
        # Not by PATH: one that the user installed is another version than the tests are made for.
        find_program({"PATH": str(Path(sys.executable).parent)})
    except ProgramNotFound:
        return True
    return False


needs_claude = pytest.mark.skipif(_is_missing(), reason="Claude Code is not installed (extra `claude`)")


@asynccontextmanager
async def claude(
    place: Path,
    core: FakeCore,
    url: str,
    *,
    role: Role = AGENT,
    variables: dict[str, str] | None = None,
    model: str = MODEL,
    **config: Any,
) -> AsyncIterator[Backend]:
    """The backend for an agent whose directories are in `place`, talking to the model at `url`."""
    state = place / "state"
    state.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "LANG": "C.UTF-8",
        "HIVE_AGENT_RUN": str(core.socket.parent),
        "HIVE_AGENT_STATE": str(state),
        "HIVE_AGENT_CLAUDE": str(place / "claude"),
        "HIVE_PARENT_PID": str(os.getpid()),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "test",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        **(variables or {}),
    }
    async with configured(core, environment, role, backend="claude", model=model, **config) as backend:
        yield backend


@asynccontextmanager
async def configured(
    core: FakeCore,
    variables: Mapping[str, str],
    role: Role = AGENT,
    prompt: str = "You count sheep.",
    repositories: Sequence[AgentRepository] = (),
    **config: Any,
) -> AsyncIterator[Backend]:
    """The backend that `config` names, for an agent that counts sheep; `variables` are its harness's environment, and
    `prompt` is its prompt.md.
    """
    profile = Profile(
        name=core.name,
        kind=core.kind,
        config=AgentConfig(**config),
        prompt=prompt,
        deployment=1,
        lease_seconds=60.0,
        repositories=list(repositories),
    )
    async with CoreClient(core.socket, patience=5.0) as client:
        backend = open_backend(BackendContext(profile, AgentEnvironment.read(variables), role, client, INSTANCE))
        try:
            yield backend
        finally:
            await backend.close()


def delivery(body: str, number: int = 1, sender: str = "bob") -> Delivery:
    return Delivery(
        id=number, sender=sender, to="alice", body=body, sent_at=datetime.now(UTC), attempt=1, redelivered=False
    )


def turn(body: str, number: int = 1, **values: Any) -> Turn:
    return Turn((delivery(body, number),), **values)


def silent(_entry: Entry) -> None:
    """Nobody listens."""


def of(kind: type[Kind], entries: Sequence[Entry]) -> list[Kind]:
    """The entries of this kind."""
    return [entry for entry in entries if isinstance(entry, kind)]


async def says(_request: dict[str, Any]) -> Blocks:
    """A model that has nothing to do."""
    return [Text("done")]


def once(*calls: ToolUse) -> Brain:
    """A model that makes these calls in its first answer, and ends the turn when it has their results."""

    async def brain(request: dict[str, Any]) -> Blocks:
        return [Text("done")] if has_tool_result(request) else list(calls)

    return brain


def bash(command: str) -> ToolUse:
    return ToolUse("Bash", {"command": command, "description": "a command", "timeout": 600_000})


def running(fits: Callable[[str], bool] = lambda _line: True) -> dict[int, str]:
    """What runs below this process, by pid."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and fits(line):
                found[process.pid] = line[:200]
        except psutil.NoSuchProcess:
            continue
    return found


def programs() -> list[int]:
    """The pids of Claude Code's processes below this one."""
    return list(running(lambda line: "stream-json" in line))
