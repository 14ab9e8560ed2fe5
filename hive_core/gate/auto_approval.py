"""Rules that approve a built proposal before anybody is asked: pure, off unless the operator sets `approval.rules`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hive_core.protocol import AgentConfig
from hive_core.settings import AutoRule

_LIMITS = ("memory_max", "cpu_quota", "tasks_max", "io_weight", "turn_timeout", "max_steps")
_SETTINGS_FILE = "agent.toml"
_MEBIBYTES = {"M": 1, "G": 1024}


@dataclass(frozen=True)
class Change:
    """What a proposal changes: the paths of files, and the settings before and after."""

    paths: Sequence[str]
    old: AgentConfig
    new: AgentConfig


def matching_rule(rules: Sequence[AutoRule], change: Change) -> str | None:
    """The name of the first rule that approves the change, or None if somebody has to be asked."""
    if not change.paths:
        return None
    return next((rule.name for rule in rules if _fits(rule, change)), None)


def _fits(rule: AutoRule, change: Change) -> bool:
    if rule.when == "limits_lowered":
        return list(change.paths) == [_SETTINGS_FILE] and _only_lowered(change.old, change.new)
    if change.old != change.new:
        return False  # However it came about: these rules are not about settings.
    if rule.when == "prompt_only":
        return list(change.paths) == ["prompt.md"]
    return all(_listed(path, rule.paths) for path in change.paths)


def _only_lowered(old: AgentConfig, new: AgentConfig) -> bool:
    """Whether limits differ and nothing else does, and none is higher.

    A limit that appears or vanishes counts as raised: what the operator's default is, and so whether the agent gets
    more or less, can change later.
    """
    if old.model_copy(update=_limits(new)) != new:
        return False
    changed = [limit for limit in _LIMITS if getattr(old, limit) != getattr(new, limit)]
    return bool(changed) and all(_lower(getattr(old, limit), getattr(new, limit)) for limit in changed)


def _limits(config: AgentConfig) -> dict[str, object]:
    return {limit: getattr(config, limit) for limit in _LIMITS}


def _lower(old: str | float | None, new: str | float | None) -> bool:
    if old is None or new is None:
        return False
    return _number(new) <= _number(old)


def _number(limit: str | float) -> float:
    return int(limit[:-1]) * _MEBIBYTES[limit[-1]] if isinstance(limit, str) else limit


def _listed(path: str, patterns: Sequence[str]) -> bool:
    parts = path.split("/")
    return path != _SETTINGS_FILE and any(_matches(parts, pattern.split("/")) for pattern in patterns)


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a path fits a pattern: `*`, `?` and `[...]` stay within one part of it, `**` stands for any parts."""
    # reached[i]: the first i parts fit the patterns so far. In this order the work is parts × patterns at most.
    reached = [True] + [False] * len(parts)
    for pattern in patterns:
        if pattern == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [place >= first for place in range(len(reached))]
        else:
            reached = [False] + [
                before and fnmatchcase(part, pattern) for before, part in zip(reached, parts, strict=False)
            ]
    return reached[-1]
