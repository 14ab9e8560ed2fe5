"""Settings in agent.toml that are probably mistakes: names that nobody knows here, and a model that nothing leads to.

They are told and not refused: newer agent CLIs have other tools, vendors other models, a recipient may be spawned
later, and the operator may allow hosts at any time. Without effects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hive_core.errors.faults import did_you_mean, nearest
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.vendors import CLAUDE_SHORT_NAMES
from hive_core.protocol.names import EVERYONE, MANAGER, OPERATOR
from hive_core.protocol.network.entries import is_usable
from hive_core.protocol.network.named_sets import NAMED_SETS, SET_OF_BACKEND
from hive_core.protocol.network.rules import compile_entries

_TOOLS = (
    *("Bash", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "WebSearch", "Task", "TodoWrite", "NotebookEdit"),
    *("Agent", "AskUserQuestion", "BashOutput", "EnterPlanMode", "ExitPlanMode", "KillShell", "LSP", "MultiEdit"),
    *("ListMcpResourcesTool", "ReadMcpResourceTool", "NotebookRead", "SendMessage", "Skill", "SlashCommand"),
    *("TaskCreate", "TaskGet", "TaskList", "TaskOutput", "TaskStop", "TaskUpdate", "TodoRead", "ToolSearch"),
)
"""Names of Claude Code's tools (its documentation, "Tools available to Claude"); all backends take these names."""


def describe_unknown(config: AgentConfig, agents: Collection[str], allowed: Collection[str] = ()) -> list[str]:
    """Return one line for each name of `config` that is not known, with the key and the name that was probably meant.

    `agents` are the names of the agents that exist, `allowed` the hosts that all agents reach. The names are not
    escaped: they are the proposer's.
    """
    return [*_tools(config), *_model(config), *_recipients(config, agents), *_vendor(config, allowed)]


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


def _vendor(config: AgentConfig, allowed: Collection[str]) -> Iterator[str]:
    """Tell of a sealed agent that reaches no host of its model's vendor, unless the operator allows one later."""
    vendor = SET_OF_BACKEND.get(config.backend)
    if vendor is None or config.network == "host" or config.provider is not None:
        return
    rules = compile_entries(entry for entry in (*allowed, *config.allowed_hosts) if is_usable(entry))
    if not any(rules.find(host.partition(":")[0], 443) for host in NAMED_SETS[vendor]):
        yield (
            f"network: it is sealed, and no host of its model's vendor is allowed: name a provider, or {vendor} in "
            "allowed_hosts"
        )
