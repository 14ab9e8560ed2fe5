"""Rules that approve built proposals automatically. Without effects; off unless `approval.rules` is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hive_core.protocol import AgentConfig
from hive_core.settings import AutoRule

_LIMITS = ("memory_max", "disk_max", "cpu_quota", "tasks_max", "io_weight", "turn_timeout", "max_steps")
_SETTINGS_FILE = "agent.toml"
_MEBIBYTES = {"M": 1, "G": 1024}


@dataclass(frozen=True)
class Change:
    """The change of a proposal: the paths of changed files, and the settings before and after."""

    paths: Sequence[str]
    old: AgentConfig
    new: AgentConfig


def matching_rule(rules: Sequence[AutoRule], change: Change) -> str | None:
    """Return the name of the first rule that approves the change, or None."""
    if not change.paths:
        return None
    return next((rule.name for rule in rules if _approves(rule, change)), None)


def _approves(rule: AutoRule, change: Change) -> bool:
    if rule.when == "limits_lowered":
        return list(change.paths) == [_SETTINGS_FILE] and _only_lowered(change.old, change.new)
    if change.old != change.new:
        return False  # These rules do not cover settings, whichever file set them.
    if rule.when == "prompt_only":
        return list(change.paths) == ["prompt.md"]
    return all(_is_listed(path, rule.paths) for path in change.paths)


def _only_lowered(old: AgentConfig, new: AgentConfig) -> bool:
    """Return True if limits are lowered and nothing else changes.

    A limit that is added or removed counts as raised, because the operator's default can change later.
    """
    if old.model_copy(update=_limits(new)) != new:
        return False
    changed = [limit for limit in _LIMITS if getattr(old, limit) != getattr(new, limit)]
    return bool(changed) and all(_is_lowered(getattr(old, limit), getattr(new, limit)) for limit in changed)


def _limits(config: AgentConfig) -> dict[str, object]:
    return {limit: getattr(config, limit) for limit in _LIMITS}


def _is_lowered(old: str | float | None, new: str | float | None) -> bool:
    if old is None or new is None:
        return False
    return _number(new) <= _number(old)


def _number(limit: str | float) -> float:
    return int(limit[:-1]) * _MEBIBYTES[limit[-1]] if isinstance(limit, str) else limit


def _is_listed(path: str, patterns: Sequence[str]) -> bool:
    return path != _SETTINGS_FILE and any(path_matches(path, pattern) for pattern in patterns)


def path_matches(path: str, pattern: str) -> bool:
    """Return True if a path matches: `*`, `?` and `[...]` match within one part of it, `**` matches any parts."""
    parts, patterns = path.split("/"), pattern.split("/")
    # prefixes[i]: the first i parts match the patterns so far. So the work is parts × patterns at most.
    prefixes = [True] + [False] * len(parts)
    for part_pattern in patterns:
        if part_pattern == "**":
            first = prefixes.index(True) if True in prefixes else len(prefixes)
            prefixes = [length >= first for length in range(len(prefixes))]
        else:
            prefixes = [False] + [
                before and fnmatchcase(part, part_pattern) for before, part in zip(prefixes, parts, strict=False)
            ]
    return prefixes[-1]
