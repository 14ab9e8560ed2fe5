"""The agent CLIs beside Claude Code, as `./dev test` installs them, each with a loopback server of its model's API."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from hive_agent.backends.base import Backend
from hive_core.protocol import Backend as BackendName
from tests.helpers.fake_generate_content_api import generate_content_server
from tests.helpers.fake_messages_api import ApiError, Blocks, Brain, ToolUse, model_server
from tests.helpers.fake_responses_api import responses_server
from tests.integration.backends.claude_code import configured, needs_claude
from tests.unit.agent.fake_core_api import FakeCore

_INSTALLED = Path(__file__).parents[3] / ".clis" / "node_modules"
_NODE = 20
"""What those want that are JavaScript; npm links them into .bin."""


class Api(Protocol):
    """A loopback server: `requests` are the bodies that came."""

    url: str
    requests: list[dict[str, Any]]


@dataclass(frozen=True)
class AgentCli:
    """One CLI: where it is, which variables lead it to its model, and what its model calls its tools."""

    name: BackendName
    program: Path | None
    """None: where its own package keeps it."""
    model: str
    address: str
    key: str
    serve: Callable[[Brain], AbstractAsyncContextManager[Api]]
    send: str
    """The hive's tool `send`."""
    shell: Callable[[str], ToolUse]
    """A call that runs a command."""


CLAUDE = AgentCli(
    name="claude",
    program=None,
    model="claude-sonnet-4-5-20250929",
    address="ANTHROPIC_BASE_URL",
    key="ANTHROPIC_API_KEY",
    serve=model_server,
    send="mcp__hive__send",
    shell=lambda command: ToolUse("Bash", {"command": command, "description": "work"}),
)
OPENCODE = AgentCli(
    name="opencode",
    program=_INSTALLED / "opencode-linux-x64-baseline/bin/opencode",
    model="claude-sonnet-4-5-20250929",
    address="ANTHROPIC_BASE_URL",
    key="ANTHROPIC_API_KEY",
    serve=model_server,
    send="hive_send",
    shell=lambda command: ToolUse("bash", {"command": command, "description": "work"}),
)
CODEX = AgentCli(
    name="codex",
    program=_INSTALLED / ".bin/codex",
    model="gpt-5.1-codex",
    address="OPENAI_BASE_URL",
    key="OPENAI_API_KEY",
    serve=responses_server,
    send="mcp__hive/send",
    shell=lambda command: ToolUse("exec_command", {"cmd": command}),
)
GEMINI = AgentCli(
    name="gemini",
    program=_INSTALLED / ".bin/gemini",
    model="gemini-2.5-pro",
    address="GOOGLE_GEMINI_BASE_URL",
    key="GEMINI_API_KEY",
    serve=generate_content_server,
    send="mcp_hive_send",
    shell=lambda command: ToolUse("run_shell_command", {"command": command, "description": "work"}),
)


@functools.cache
def _node() -> int:
    """The major version of the Node.js on the PATH; 0 if there is none."""
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout if node else ""
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _param(cli: AgentCli) -> Any:
    if cli.program is None:
        return pytest.param(cli, id=cli.name, marks=needs_claude)
    if not os.access(cli.program, os.X_OK):
        reason = f"{cli.name} is not in .clis (./dev test puts it there, where there is npm; opencode on x86-64 only)"
    else:
        reason = f"{cli.name} needs Node.js {_NODE} on the PATH" if cli.program.is_symlink() and _node() < _NODE else ""
    return pytest.param(cli, id=cli.name, marks=pytest.mark.skipif(bool(reason), reason=reason))


def each(*clis: AgentCli) -> list[Any]:
    """As parameters of a test; those that are not installed are skipped."""
    return [_param(cli) for cli in clis]


Answer = Blocks | ApiError | Callable[[], Awaitable[Blocks]]


class Answers:
    """A model that gives these answers one after another; then it thinks for ever, and `thinks` is set.

    An answer may be a function, which is called when its time comes.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.thinks = asyncio.Event()

    async def __call__(self, _request: dict[str, Any]) -> Blocks | ApiError:
        if self._answers:
            answer = self._answers.pop(0)
            return await answer() if callable(answer) else answer
        self.thinks.set()
        await asyncio.Event().wait()
        return ()

    def add(self, *answers: Answer) -> None:
        self._answers += answers


def variables(cli: AgentCli, place: Path, run: Path) -> dict[str, str]:
    """A harness's environment, without credentials."""
    found = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "LANG": "C.UTF-8",
        "HIVE_AGENT_RUN": str(run),
        "HIVE_AGENT_STATE": str(place / "state"),
        "HIVE_AGENT_CLAUDE": str(place / "claude"),
        "HIVE_AGENT_CODE": str(place / "code"),
        "HIVE_PARENT_PID": str(os.getpid()),
        "CLAUDE_CODE_MAX_RETRIES": "0",  # the others get no such variable
    }
    if cli.program is not None:
        found[f"HIVE_{cli.name.upper()}"] = str(cli.program)
    return found


@asynccontextmanager
async def opened(
    cli: AgentCli, place: Path, core: FakeCore, url: str, *, more: Sequence[tuple[str, str]] = (), **config: Any
) -> AsyncIterator[Backend]:
    """The backend for an agent whose directories are in `place`, talking to the model at `url`."""
    (place / "state").mkdir(exist_ok=True)
    environment = variables(cli, place, core.socket.parent) | {cli.address: url, cli.key: "test"} | dict(more)
    async with configured(core, environment, backend=cli.name, model=cli.model, **config) as backend:
        yield backend
