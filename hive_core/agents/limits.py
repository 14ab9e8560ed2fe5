"""How the limits of an agent come together: what its configuration asks for, the operator's defaults, and the ceilings.

Pure. A limit that `agent.toml` sets wins over the default; nothing is above a ceiling, and where there is a ceiling
there is a limit. Sizes are compared in bytes, so that "1024M" is no less than "1G".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig, Limits, memory_bytes
from hive_core.settings import LimitCeilings

KEYS: Final = tuple(Limits.model_fields)
"""The names of all limits, the same in `agent.toml`, in the settings and in the protocol."""
_USUAL: Final = {"io_weight": 100}
"""What holds without a limit, where that is not "no end": the weight that the kernel gives everybody."""


@dataclass(frozen=True)
class Excess:
    """A limit that is above what the operator allows."""

    key: str
    asked: str | int
    ceiling: str | int

    def message(self) -> str:
        """What is wrong, without what to do."""
        return f"{self.key}: {self.asked} is above the operator's ceiling, {self.ceiling}"


@dataclass(frozen=True)
class LimitPolicy:
    """What the operator gives every agent (`limits`) and allows at most (`ceilings`)."""

    defaults: LimitCeilings = field(default_factory=LimitCeilings)
    ceilings: LimitCeilings = field(default_factory=LimitCeilings)

    def effective(self, config: AgentConfig) -> Limits:
        """What holds for an agent with this configuration when it is started."""
        wanted = {key: _first(getattr(config, key), getattr(self.defaults, key)) for key in KEYS}
        return self.within(Limits.model_validate(wanted))

    def within(self, limits: Limits) -> Limits:
        """The limits, each of them lowered to its ceiling where it is above it."""
        return Limits.model_validate(
            {key: _lowered(key, getattr(limits, key), getattr(self.ceilings, key)) for key in KEYS}
        )

    def check(self, limits: Limits) -> None:
        """Refuse limits above a ceiling. Raises HiveError `above_ceiling`, which names all of them."""
        if found := excesses(limits, self.ceilings):
            raise above_ceiling(found)


def excesses(asked: AgentConfig | Limits, ceilings: LimitCeilings) -> list[Excess]:
    """Every limit that is asked for and above its ceiling. What is not asked for is none."""
    found = []
    for key in KEYS:
        value, ceiling = getattr(asked, key), getattr(ceilings, key)
        if value is not None and ceiling is not None and _number(value) > _number(ceiling):
            found.append(Excess(key, value, ceiling))
    return found


def above_ceiling(found: list[Excess]) -> HiveError:
    """The refusal of limits where no line of a file can be named."""
    return HiveError("above_ceiling", "; ".join(each.message() for each in found), hint=remedy(found))


def remedy(found: list[Excess]) -> str:
    """What to do about limits that are too high."""
    most = ", ".join(f"{each.key} = {_as_toml(each.ceiling)}" for each in found)
    return f"ask for no more than {most}; the operator can raise ceilings in the daemon's settings"


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _lowered(key: str, value: Any, ceiling: Any) -> Any:
    if ceiling is None:
        return value
    now = _first(value, _USUAL.get(key))
    if now is None or _number(now) > _number(ceiling):
        return ceiling
    return value


def _number(limit: str | int) -> int:
    return memory_bytes(limit) if isinstance(limit, str) else limit


def _as_toml(limit: str | int) -> str:
    return f'"{limit}"' if isinstance(limit, str) else str(limit)
