"""How opencode, codex and gemini are called: their environment, their settings, and what they may do."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends import mcp_launch
from hive_agent.backends.base import BackendContext, Choice, Failed, Turn, open_backend
from hive_agent.backends.one_shot.backend import CliSpec
from hive_agent.backends.one_shot.codex import Codex
from hive_agent.backends.one_shot.gemini import Gemini, policy
from hive_agent.backends.one_shot.opencode import Opencode, permissions
from hive_agent.backends.tool_permissions import BadConfig, parse_tools
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import AGENT
from hive_core.protocol import AgentConfig, Backend, Profile
from tests.integration.backends.claude_code import delivery

CLIS: dict[Backend, Callable[[BackendContext], CliSpec]] = {"opencode": Opencode, "codex": Codex, "gemini": Gemini}
SERVERS = {
    "clock": {"command": "clock-mcp", "args": ["--utc"], "env": {"ZONE": "x"}},
    "web": {"url": "https://mcp.test/"},
}


def context(place: Path, backend: Backend, config: dict[str, Any], **variables: str) -> BackendContext:
    """For an agent in `place`, where each CLI is a program that does nothing."""
    (place / "state").mkdir(exist_ok=True)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HIVE_AGENT_RUN": str(place / "run"),
        "HIVE_AGENT_STATE": str(place / "state"),
        "HIVE_AGENT_CLAUDE": str(place / "home"),
        **{f"HIVE_{name.upper()}": "/bin/true" for name in CLIS},
        **variables,
    }
    profile = Profile(
        name="alice",
        kind="agent",
        config=AgentConfig.model_validate({"backend": backend, **config}),
        prompt="You count sheep.",
        deployment=1,
        lease_seconds=60.0,
    )
    client = CoreClient(place / "run" / "core.sock", patience=0.1)
    return BackendContext(profile, AgentEnvironment.read(environment), AGENT, client, "0000")


@pytest.mark.parametrize("backend", CLIS)
def test_environment_is_made_from_nothing(tmp_path: Path, backend: Backend) -> None:
    """A CLI gets what it needs and what agent.toml lists, and nothing else of the harness's environment."""
    given = {"GH_TOKEN": "a", "MY_ONE": "b", "AWS_SECRET": "c", "LD_PRELOAD": "d", "HIVE_INSTANCE": "e"}
    config = {"environment": ["GH_TOKEN", "MY_*"]}
    found = CLIS[backend](context(tmp_path, backend, config, **given)).prepare_call(Choice(), None).environment
    assert (found["GH_TOKEN"], found["MY_ONE"]) == ("a", "b")
    assert not {"AWS_SECRET", "LD_PRELOAD", "HIVE_INSTANCE"} & set(found)


@pytest.mark.parametrize("backend", CLIS)
def test_settings_are_for_the_agent_alone(tmp_path: Path, backend: Backend) -> None:
    """Identity and settings, which may hold secrets, are for their owner only, and not where the agent works."""
    cli = CLIS[backend](context(tmp_path, backend, {}))
    cli.prepare_call(Choice(), None)
    written = [path for path in cli.home.rglob("*") if path.is_file()]
    assert any("You count sheep." in path.read_text() for path in written)
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("backend", CLIS)
def test_mcp_servers(tmp_path: Path, backend: Backend) -> None:
    """Beside the hive's MCP server the CLI gets those of agent.toml: programs by the launcher, and addresses."""
    cli = CLIS[backend](context(tmp_path, backend, {"mcp_servers": SERVERS}))
    cli.prepare_call(Choice(), None)
    programs = tmp_path / "state/tmp/mcp-programs.json"
    launcher = [sys.executable, "-I", "-S", mcp_launch.__file__, str(programs), "clock"]
    match backend:
        case "opencode":
            servers = json.loads((cli.home / "opencode.json").read_text())["mcp"]
            assert servers["clock"]["command"] == launcher
        case "codex":
            servers = tomllib.loads((cli.home / "config.toml").read_text())["mcp_servers"]
            assert servers["hive"]["required"] is True
        case _:
            servers = json.loads((cli.home / ".gemini" / "settings.json").read_text())["mcpServers"]
            assert servers["web"]["httpUrl"] == "https://mcp.test/"
    if backend != "opencode":
        assert [servers["clock"]["command"], *servers["clock"]["args"]] == launcher
    assert set(servers) == {"hive", "clock", "web"}
    assert "https://mcp.test/" in servers["web"].values()
    written = json.loads(programs.read_text())
    assert (written["clock"]["command"], written["clock"]["args"]) == ("clock-mcp", ["--utc"])
    assert written["clock"]["env"]["ZONE"] == "x"
    assert programs.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("backend", CLIS)
def test_calls_of_tools_may_wait(tmp_path: Path, backend: Backend) -> None:
    """The time limit that each CLI has for a call of a tool is not under a turn's, for every MCP server."""
    cli = CLIS[backend](context(tmp_path, backend, {"mcp_servers": SERVERS}))
    cli.prepare_call(Choice(), None)
    match backend:
        case "opencode":
            servers = json.loads((cli.home / "opencode.json").read_text())["mcp"]
            limits = {name: server["timeout"] / 1_000 for name, server in servers.items()}
        case "codex":
            servers = tomllib.loads((cli.home / "config.toml").read_text())["mcp_servers"]
            limits = {name: server["tool_timeout_sec"] for name, server in servers.items()}
        case _:
            servers = json.loads((cli.home / ".gemini" / "settings.json").read_text())["mcpServers"]
            limits = {name: server["timeout"] / 1_000 for name, server in servers.items()}
    assert set(limits) == {"hive", "clock", "web"}
    assert min(limits.values()) >= AgentConfig().turn_timeout


@pytest.mark.parametrize("backend", CLIS)
def test_conversation_model_and_effort(tmp_path: Path, backend: Backend) -> None:
    """What was chosen and the conversation to go on with reach the program or its settings."""
    cli = CLIS[backend](context(tmp_path, backend, {}))
    call = cli.prepare_call(Choice("some-model", "high"), "the-session")
    told = " ".join(call.argv) + "".join(path.read_text() for path in cli.home.rglob("*") if path.is_file())
    assert "the-session" in " ".join(call.argv)
    assert "some-model" in told
    assert {"opencode": "--variant=high", "codex": '"high"', "gemini": "16384"}[backend] in told


@pytest.mark.parametrize("backend", ["codex", "gemini"])
async def test_limits_that_cannot_be_kept(tmp_path: Path, backend: Backend) -> None:
    """A tool is never allowed in more ways than agent.toml says: where the CLI cannot limit it, the turn fails."""
    made = context(tmp_path, backend, {"tools": ["Read(/config/*)"]})
    async with made.client:
        outcome = await open_backend(made).run(Turn((delivery("hello"),)), lambda _entry: None)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "config"
    assert "/config/*" in outcome.detail and "`tools` of agent.toml" in outcome.detail


def test_opencode_permissions() -> None:
    """All is denied but the MCP servers and what agent.toml lists; a pattern allows what fits it and no more."""
    rules = permissions(parse_tools(["Bash(git *)", "Bash(ls)", "Read"]), ["hive"])
    assert rules["*"] == "deny"
    assert rules["hive_*"] == rules["read"] == "allow"
    assert rules["bash"] == {"*": "deny", "git *": "allow", "ls": "allow"}
    assert "edit" not in rules


def test_gemini_policy() -> None:
    """All is denied but the MCP servers and what agent.toml lists; of Bash also single commands."""
    deny, hive, *rules = policy(parse_tools(["Bash(git *)", "Read"]), ["hive"])
    assert (deny["toolName"], deny["decision"]) == ("*", "deny")
    assert (hive["mcpName"], hive["decision"]) == ("hive", "allow")
    assert rules[0]["toolName"] == "run_shell_command" and rules[0]["commandPrefix"] == "git"
    assert "read_file" in rules[1]["toolName"]
    with pytest.raises(BadConfig, match="Read"):
        policy(parse_tools(["Read(/config/*)"]), ["hive"])


def test_gemini_prompt_names_no_files(tmp_path: Path) -> None:
    """An `@` in a message puts no file into gemini's prompt, and what is written for it can be undone."""
    prompt = "see @/config/agent.toml or \\@x or \\\\@"
    explained, shown = Gemini(context(tmp_path, "gemini", {})).escape_prompt(prompt).split("\n\n")
    assert shown.replace("\\@", "@") == prompt
    assert not re.search(r"(?<!\\)@", explained + shown)


def test_codex_prompt_names_no_skills(tmp_path: Path) -> None:
    """A `$` in a message puts no skill into codex's prompt; without skills the prompt stays as it is."""
    codex, prompt = Codex(context(tmp_path, "codex", {}, HOME=str(tmp_path))), "$know costs $5 or $\\x"
    assert codex.escape_prompt(prompt) == prompt
    (tmp_path / ".agents/skills/know").mkdir(parents=True)
    explained, shown = codex.escape_prompt(prompt).split("\n\n")
    assert shown.replace("$\\", "$") == prompt
    assert not re.search(r"\$\w", explained + shown)
    assert codex.escape_prompt("$ is money") == "$ is money"
