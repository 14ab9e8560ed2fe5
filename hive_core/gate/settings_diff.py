"""Changes of `agent.toml` in words, for whoever decides on them: pure. Every field has words of its own.

What an agent wrote into a setting stands in these lines as it is: whoever shows them escapes and cuts them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hive_core.protocol import AgentConfig
from hive_core.protocol.agent_config import McpServer, ScriptRule

_MOST_NAMED = 100
_WIDTH = 250
_MEBIBYTES = {"M": 1, "G": 1024}
_NETWORKS = {"host": "the host's", "sealed": "none but the hive's socket"}


def describe_changes(old: AgentConfig | None, new: AgentConfig) -> list[str]:
    """What changes, a line each, in the order of the fields; with `old` of None everything that is set."""
    lines = []
    for name in AgentConfig.model_fields:
        after = getattr(new, name)
        if old is None:
            lines += _FIRST[name](after)
        elif (before := getattr(old, name)) != after:
            lines += _CHANGED[name](before, after)
    return lines


def _named(label: str, items: Sequence[str]) -> list[str]:
    """`label` with a list of names behind it, on as many short lines as that takes: none is cut out of sight."""
    lines: list[str] = []
    for item in items[:_MOST_NAMED]:
        if lines and len(lines[-1]) + len(item) + 2 <= _WIDTH:
            lines[-1] += f", {item}"
        else:
            lines.append(f"{label} {item}")
    if len(items) > _MOST_NAMED:
        lines.append(f"{label} {len(items) - _MOST_NAMED} more")
    return lines


def _missing(items: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [item for item in dict.fromkeys(items) if item not in known]


# --- one value of a field ---------------------------------------------------------------------------------------


def _plain(value: object) -> str:
    return "the default" if value is None else str(value)


def _memory(value: str | None) -> str:
    return "the operator's default" if value is None else f"{value[:-1]} {value[-1]}iB"


def _cpu(value: int | None) -> str:
    return "the operator's default" if value is None else f"{value} % of one core"


def _tasks(value: int | None) -> str:
    return "the operator's default" if value is None else str(value)


def _share(value: int | None) -> str:
    return "the operator's default" if value is None else f"{value} (100 is everybody's)"


def _network(value: str) -> str:
    return _NETWORKS[value]


def _seconds(value: float) -> str:
    return f"{value:.12g} s"


def _size(value: str | float) -> float:
    return int(value[:-1]) * _MEBIBYTES[value[-1]] if isinstance(value, str) else value


# --- changes of a field -----------------------------------------------------------------------------------------


def _value(label: str, told: Callable[[Any], str] = _plain) -> Callable[[Any, Any], list[str]]:
    return lambda before, after: [f"{label}: {told(before)} -> {told(after)}"]


def _limit(label: str, told: Callable[[Any], str]) -> Callable[[Any, Any], list[str]]:
    def words(before: Any, after: Any) -> list[str]:
        if before is None:
            return [f"{label}: set to {told(after)}, was {told(None)}"]
        if after is None:
            return [f"{label}: removed, was {told(before)}, now {told(None)}"]
        if _size(before) == _size(after):
            return [f"{label}: {told(before)} -> {told(after)}, the same in another unit"]
        way = "raised" if _size(after) > _size(before) else "lowered"
        return [f"{label}: {way} from {told(before)} to {told(after)}"]

    return words


def _tools(before: list[str], after: list[str]) -> list[str]:
    lines = _named("tools added:", _missing(after, before)) + _named("tools removed:", _missing(before, after))
    return lines or ["tools: the same in another order or number"]


def _recipients(before: list[str] | None, after: list[str] | None) -> list[str]:
    if before is None:
        return _only("may send to: everyone ->", after or [])
    if after is None:
        return [*_only("could send to:", before), "may now send to: everyone"]
    lines = _named("may now also send to:", _recipient_names(_missing(after, before)))
    lines += _named("may no longer send to:", _recipient_names(_missing(before, after)))
    return lines or ["may send to: the same in another order or number"]


def _only(label: str, recipients: list[str]) -> list[str]:
    return _named(f"{label} only", _recipient_names(recipients)) or [f"{label} nobody"]


def _recipient_names(recipients: Sequence[str]) -> list[str]:
    return ["* (all at once)" if name == "*" else name for name in recipients]


def _variables(before: list[str], after: list[str]) -> list[str]:
    lines = _named("now also gets the variables:", _missing(after, before))
    lines += _named("no longer gets the variables:", _missing(before, after))
    return lines or ["variables that it gets: the same in another order or number"]


def _servers(before: Mapping[str, McpServer], after: Mapping[str, McpServer]) -> list[str]:
    lines = [
        f"MCP server {name} {'changed' if name in before else 'added'}: {_server(server)}"
        for name, server in after.items()
        if before.get(name) != server
    ]
    lines += [f"MCP server {name} removed" for name in before if name not in after]
    return lines or ["MCP servers: the same in another order"]


def _server(server: McpServer) -> str:
    if server.url is not None:
        return server.url
    words = [shlex.quote(word) for word in (server.command or "", *server.args)]
    return " ".join([*words, *(f"(with {name} set)" for name in server.env)])


def _script(before: list[ScriptRule], after: list[ScriptRule]) -> list[str]:
    # Compared as text, since rules are no more hashable than what is in them.
    old, new = ([rule.model_dump_json() for rule in rules] for rules in (before, after))
    counted = [
        f"{_rules(len(found))} {what}"
        for what, found in (("added", _missing(new, old)), ("removed", _missing(old, new)))
        if found
    ]
    return [f"script: {', '.join(counted)}" if counted else "script: the same rules in another order or number"]


def _rules(count: int) -> str:
    return f"{count} rule" if count == 1 else f"{count} rules"


_CHANGED: dict[str, Callable[[Any, Any], list[str]]] = {
    "backend": _value("backend"),
    "model": _value("model"),
    "effort": _value("effort"),
    "tools": _tools,
    "allowed_recipients": _recipients,
    "memory_max": _limit("memory limit", _memory),
    "cpu_quota": _limit("CPU limit", _cpu),
    "tasks_max": _limit("limit of processes", _tasks),
    "io_weight": _limit("share of the disk", _share),
    "network": _value("network", _network),
    "turn_timeout": _limit("turn time limit", _seconds),
    "max_steps": _limit("limit of model calls in a turn", str),
    "idle_timeout": _limit("time that an idle session is kept", _seconds),
    "environment": _variables,
    "mcp_servers": _servers,
    "script": _script,
}
_FIRST: dict[str, Callable[[Any], list[str]]] = {
    "backend": lambda value: [f"backend: {value}"],
    "model": lambda value: [f"model: {value}"] if value is not None else [],
    "effort": lambda value: [f"effort: {value}"] if value is not None else [],
    "tools": lambda value: _named("tools:", value) or ["tools: none"],
    "allowed_recipients": lambda value: ["may send to: everyone"] if value is None else _only("may send to:", value),
    "memory_max": lambda value: [f"memory limit: {_memory(value)}"],
    "cpu_quota": lambda value: [f"CPU limit: {_cpu(value)}"],
    "tasks_max": lambda value: [f"limit of processes: {_tasks(value)}"],
    "io_weight": lambda value: [f"share of the disk: {_share(value)}"],
    "network": lambda value: [f"network: {_network(value)}"],
    "turn_timeout": lambda value: [f"turn time limit: {_seconds(value)}"],
    "max_steps": lambda value: [f"limit of model calls in a turn: {value}"],
    "idle_timeout": lambda value: [f"time that an idle session is kept: {_seconds(value)}"],
    "environment": lambda value: _named("gets the variables:", value),
    "mcp_servers": lambda value: [f"MCP server {name}: {_server(server)}" for name, server in value.items()],
    "script": lambda value: [f"script: {_rules(len(value))}"] if value else [],
}
