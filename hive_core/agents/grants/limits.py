"""Limits of agents: defaults, ceilings, effective limits, and changes while an agent runs.

A limit in `agent.toml` takes precedence over the operator's default. No limit is above its ceiling, and an agent
without a limit gets the ceiling, if there is one. Sizes are compared in bytes, so that "1024M" equals "1G".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from hive_core.agents.registry import AgentRegistry
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, bad_request, conflict
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.protocol import AgentConfig, Limits, LimitsAnswer, LimitsRequest, memory_bytes
from hive_core.runtimes.base import Runtime
from hive_core.settings import LimitCeilings

KEYS: Final = tuple(Limits.model_fields)
"""The names of all limits, the same in `agent.toml`, in the settings and in the protocol."""
_USUAL: Final = {"io_weight": 100}
"""The effective value without a limit, where it is finite: every cgroup has this weight by default."""


@dataclass(frozen=True)
class Excess:
    """A requested limit that is above its ceiling."""

    key: str
    asked: str | int
    ceiling: str | int

    def message(self) -> str:
        """The error message, without a hint."""
        return f"{self.key}: {self.asked} is above the operator's ceiling, {self.ceiling}"


@dataclass(frozen=True)
class LimitPolicy:
    """The operator's settings: the default limits of every agent, and the ceilings that no agent may exceed."""

    defaults: LimitCeilings = field(default_factory=LimitCeilings)
    ceilings: LimitCeilings = field(default_factory=LimitCeilings)

    def effective(self, config: AgentConfig) -> Limits:
        """The limits of an agent that is started with this configuration."""
        wanted = {key: _first(getattr(config, key), getattr(self.defaults, key)) for key in KEYS}
        return self.within(Limits.model_validate(wanted))

    def within(self, limits: Limits) -> Limits:
        """The limits, each lowered to its ceiling."""
        return Limits.model_validate(
            {key: _lowered(key, getattr(limits, key), getattr(self.ceilings, key)) for key in KEYS}
        )

    def check(self, limits: Limits) -> None:
        """Raise HiveError `above_ceiling`, which names every limit above its ceiling."""
        if found := excesses(limits, self.ceilings):
            raise above_ceiling(found)


class AgentLimits:
    """The limits and the usage of agents; changes the limits of running agents."""

    def __init__(self, registry: AgentRegistry, *, database: Database, runtime: Runtime, policy: LimitPolicy) -> None:
        self._registry = registry
        self._database = database
        self._runtime = runtime
        self._policy = policy

    async def read(self, name: str) -> LimitsAnswer:
        """The agent's configured and active limits and its usage; raises like `AgentRegistry.record`."""
        return await self._answer(self._registry.record(name))

    async def change(self, name: str, request: LimitsRequest, actor: str) -> LimitsAnswer:
        """Change the limits of a running agent at once; they hold until its next activation and are not stored.

        Limits that the request does not name are lowered to the ceilings where they are above them.

        Raises:
            HiveError: `unknown_agent`, `bad_name`, `invalid_request`, `above_ceiling`, `limits_not_enforced`,
                `disk_not_limited`, `not_running`.
        """
        self._registry.record(name)
        asked = {key: getattr(request, key) for key in KEYS if getattr(request, key) is not None}
        if not asked and not request.reset:
            raise bad_request("no limit is named", f"name one of {', '.join(KEYS)}, or reset")
        self._policy.check(Limits.model_validate(asked))
        # The lock keeps an activation away, which sets the limits of the configuration.
        async with self._registry.lock(name):
            record = self._registry.record(name)
            disk_problem = (await self._runtime.disks.read(name)).problem
            if not self._runtime.limiting and (asked.keys() - {"disk_max"} or (request.reset and disk_problem)):
                raise conflict(
                    "limits_not_enforced",
                    f"the {self._runtime.name} runtime cannot limit what {name} uses",
                    'run the hive on NixOS with runtime = "nixos" for limits',
                )
            unit = self._registry.unit(name)
            if unit is None or unit.lifecycle not in ("starting", "running"):
                raise conflict("not_running", f"{name} is not running", f"start it first: hive-c0re start {name}")
            if "disk_max" in asked and disk_problem:
                raise conflict(
                    "disk_not_limited",
                    f"disk_max of {name} cannot be enforced: {disk_problem}",
                    "hive-c0re doctor says what to do",
                )
            before = await self._runtime.limits(name)
            base = self._policy.effective(record.config) if request.reset else before
            new = self._policy.within(base.model_copy(update=asked))
            detail = {"changed": _changed(before, new), "reset": request.reset}
            # Written first, as for every action: an action that cannot be recorded must not happen.
            await self._database.write(
                lambda db: audit.append(db, actor=actor, action="limits", subject=name, detail=detail)
            )
            await self._runtime.limit(name, new)
            return await self._answer(record)

    async def _answer(self, record: AgentRecord) -> LimitsAnswer:
        name = record.name
        return LimitsAnswer(
            name=name,
            configured=self._policy.effective(record.config),
            in_force=await self._runtime.limits(name),
            enforced=self._runtime.limiting,
            disk_problem=(await self._runtime.disks.read(name)).problem,
            usage=await self._runtime.usage(name),
        )


def excesses(asked: AgentConfig | Limits, ceilings: LimitCeilings) -> list[Excess]:
    """The requested limits that are above their ceilings; a limit of None is not requested."""
    found = []
    for key in KEYS:
        value, ceiling = getattr(asked, key), getattr(ceilings, key)
        if value is not None and ceiling is not None and _number(value) > _number(ceiling):
            found.append(Excess(key, value, ceiling))
    return found


def above_ceiling(found: list[Excess]) -> HiveError:
    """The error for limits that did not come from a file."""
    return HiveError("above_ceiling", "; ".join(each.message() for each in found), hint=remedy(found))


def remedy(found: list[Excess]) -> str:
    """The hint for limits above their ceilings."""
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


def _changed(before: Limits, after: Limits) -> dict[str, list[str | int | None]]:
    """The limits that differ, each with its old and its new value."""
    return {
        key: [getattr(before, key), getattr(after, key)] for key in KEYS if getattr(before, key) != getattr(after, key)
    }
