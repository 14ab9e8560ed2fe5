"""Names in agent.toml that nobody knows here: tools, models and recipients that were probably mistyped.

They are told and not refused: newer agent CLIs have other tools, vendors other models, and a recipient may be spawned
later. Without effects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hive_core.errors.faults import did_you_mean, nearest
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.providers import CLAUDE_SHORT_NAMES
from hive_core.protocol.names import EVERYONE, MANAGER, OPERATOR

_TOOLS = (
    *("Bash", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "WebSearch", "Task", "TodoWrite", "NotebookEdit"),
    *("Agent", "AskUserQuestion", "BashOutput", "EnterPlanMode", "ExitPlanMode", "KillShell", "LSP", "MultiEdit"),
    *("ListMcpResourcesTool", "ReadMcpResourceTool", "NotebookRead", "SendMessage", "Skill", "SlashCommand"),
    *("TaskCreate", "TaskGet", "TaskList", "TaskOutput", "TaskStop", "TaskUpdate", "TodoRead", "ToolSearch"),
)
"""Names of Claude Code's tools (its documentation, "Tools available to Claude"); all backends take these names."""


def describe_unknown(config: AgentConfig, agents: Collection[str]) -> list[str]:
    """Return one line for each name of `config` that is not known, with the key and the name that was probably meant.

    `agents` are the names of the agents that exist. The names are not escaped: they are the proposer's.
    """
    return [*_tools(config), *_model(config), *_recipients(config, agents)]


def _tools(config: AgentConfig) -> Iterator[str]:
    for tool in config.tools:
        name = tool.partition("(")[0].strip()
        # Tools of MCP servers are named by the servers.
        if name not in _TOOLS and not name.startswith("mcp__"):
            yield f"tools: no tool {name} is known{did_you_mean(name, _TOOLS)}"


def _model(config: AgentConfig) -> Iterator[str]:
    model = config.model
    if config.backend != "claude" or model is None or model in CLAUDE_SHORT_NAMES:
        return
    if nearest(model, CLAUDE_SHORT_NAMES):
        yield f"model: no model {model} is known{did_you_mean(model, CLAUDE_SHORT_NAMES)}"


def _recipients(config: AgentConfig, agents: Collection[str]) -> Iterator[str]:
    known = [MANAGER, OPERATOR, EVERYONE, *agents]
    for name in config.allowed_recipients or []:
        if name not in known:
            yield f"allowed_recipients: there is no agent {name} now{did_you_mean(name, known)}"
