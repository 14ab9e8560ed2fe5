"""Descriptions of changes of `agent.toml`, one line each under the key that the author wrote. Without effects.

The values of an agent are not escaped here: the code that shows the lines escapes and cuts them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hive_core.protocol import AgentConfig, memory_bytes
from hive_core.protocol.config.agent_config import McpServer, ScriptRule
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.network.named_sets import NAMED_SETS

_MOST_NAMED = 100
_WIDTH = 250
_WORDS = frozenset({"backend", "model", "effort", "provider", "network", "nix_daemon"})
"""Settings that are not numbers, of which none is higher than another."""
_UNSET = {"allowed_recipients": "everyone", "provider": "none"}
_MEANINGS = {
    "repos": "it sees each of them whole, with its history, and may submit work for it",
    "allowed_hosts": "it reaches each of them, and can send them all that it knows",
    "features": "with each of them a call of the model reaches beyond the call, or costs more",
}
"""The meaning of a name that is added to a list."""
_EFFECTS: dict[tuple[str, object], str] = {
    ("network", "host"): (
        "the whole network of the host: services on its loopback, the cloud's metadata service, the internet"
    ),
    ("nix_daemon", True): "the host's Nix daemon, and so the whole network and the host's disk",
}
"""The meaning of settings that a reviewer might take for small ones."""
_FIRST = tuple(dict.fromkeys(key for key, _ in _EFFECTS))
"""Settings that are described first, so that no long list of others pushes them out of what is shown."""
_SAME = "the same in another order or number"


def describe_changes(old: AgentConfig | None, new: AgentConfig) -> list[str]:
    """Describe the changes, those of more reach first, then by the order of the fields; all of `new` without `old`."""
    lines = []
    for key in dict.fromkeys((*_FIRST, *AgentConfig.model_fields)):
        after = getattr(new, key)
        if old is None:
            lines += _list(f"{key}:", _items(key, after))
            lines += _meanings(key, after) if after else []
        elif (before := getattr(old, key)) != after:
            lines += _changed(key, before, after)
    return lines


def find_reach(lines: Sequence[str]) -> list[str]:
    """Return what leads out of the sandbox by these lines of a description, in the hive's words."""
    return [
        effect
        for (key, _), effect in _EFFECTS.items()
        if any(_gives(line, f"{key}: ", f"({effect})") for line in lines)
    ]


def _gives(line: str, key: str, effect: str) -> bool:
    # A list of an agent's own words begins each of its lines with its key.
    return line.startswith(key) and line.endswith(effect)


def _changed(key: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, SpendingLimits):
        pairs = ((name, value, getattr(after, name)) for name, value in before)
        return [line for name, old, new in pairs if old != new for line in _changed(f"{key}.{name}", old, new)]
    if isinstance(before, Mapping):
        return _changed_servers(key, before, after)
    if isinstance(before, list) and isinstance(after, list):
        return _changed_list(key, before, after)
    if isinstance(before, list) or isinstance(after, list):
        return [*_list(f"{key}: was", _items(key, before)), *_list(f"{key}: now", _items(key, after))]
    return [f"{key}: {_value(key, before)} -> {_value(key, after)}{_direction(key, before, after)}"]


def _changed_list(key: str, before: Sequence[str | ScriptRule], after: Sequence[str | ScriptRule]) -> list[str]:
    old, new = (
        [item if isinstance(item, str) else item.model_dump_json() for item in each] for each in (before, after)
    )
    lines = []
    for what, items in (("added", _missing(new, old)), ("removed", _missing(old, new))):
        if items:
            lines += _list(f"{key}: {what}", items) if key != "script" else [f"{key}: {what} {_rules(len(items))}"]
    lines += _meanings(key, added) if (added := _missing(new, old)) else []
    return lines or [f"{key}: {_SAME}"]


def _meanings(key: str, added: Any) -> list[str]:
    """Return what it means that these names are added to a list, and what the sets among them stand for."""
    lines = [f"{key}: {_MEANINGS[key]}"] if key in _MEANINGS else []
    if key == "allowed_hosts":
        for name in added:
            lines += _list(f"{key}: {name} stands for", NAMED_SETS[name]) if name in NAMED_SETS else []
    return lines


def _changed_servers(key: str, before: Mapping[str, McpServer], after: Mapping[str, McpServer]) -> list[str]:
    lines = [
        f"{key}.{name}: {'changed to' if name in before else 'added'} {_server(server)}"
        for name, server in after.items()
        if before.get(name) != server
    ]
    lines += [f"{key}.{name}: removed" for name in before if name not in after]
    return lines or [f"{key}: {_SAME}"]


def _list(label: str, items: Sequence[str]) -> list[str]:
    """Put `items` behind `label`, on several short lines if needed, so that no item is cut when it is shown."""
    lines: list[str] = []
    for item in items[:_MOST_NAMED]:
        if lines and len(lines[-1]) + len(item) + 2 <= _WIDTH:
            lines[-1] += f", {item}"
        else:
            lines.append(f"{label} {item}")
    if len(items) > _MOST_NAMED:
        lines.append(f"{label} {len(items) - _MOST_NAMED} more")
    return lines or [f"{label} none"]


def _items(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name} ({_server(server)})" for name, server in value.items()]
    if isinstance(value, SpendingLimits):
        return [f"{name} {_value(name, limit)}" for name, limit in value if limit is not None] or [_value(key, None)]
    if key == "script":
        return [_rules(len(value))] if value else []
    return value if isinstance(value, list) else [_value(key, value)]


def _rules(count: int) -> str:
    return f"{count} rule" if count == 1 else f"{count} rules"


def _value(key: str, value: str | float | None) -> str:
    if value is None:
        return _UNSET.get(key, "the default")
    text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else f"{value:.12g}"
    effect = _EFFECTS.get((key, value))
    return f"{text} ({effect})" if effect else text


def _direction(key: str, before: Any, after: Any) -> str:
    if key in _WORDS or before is None or after is None:
        return ""
    old, new = (memory_bytes(value) if isinstance(value, str) else value for value in (before, after))
    if old == new:
        return " (the same)"
    return " (raised)" if new > old else " (lowered)"


def _missing(items: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [item for item in dict.fromkeys(items) if item not in known]


def _server(server: McpServer) -> str:
    if server.url is not None:
        return server.url
    words = [shlex.quote(word) for word in (server.command or "", *server.args)]
    return " ".join([*words, *(f"(with {name} set)" for name in server.env)])
