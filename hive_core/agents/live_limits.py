"""Limits of agents, and changes of them while an agent runs."""

from __future__ import annotations

from hive_core.agents.limits import KEYS, LimitPolicy
from hive_core.agents.registry import AgentRegistry
from hive_core.agents.store import AgentRecord
from hive_core.errors import bad_request, conflict
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.protocol import Limits, LimitsAnswer, LimitsRequest
from hive_core.runtimes.base import Runtime


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
                `not_running`.
        """
        self._registry.record(name)
        asked = {key: getattr(request, key) for key in KEYS if getattr(request, key) is not None}
        if not asked and not request.reset:
            raise bad_request("no limit is named", f"name one of {', '.join(KEYS)}, or reset")
        self._policy.check(Limits.model_validate(asked))
        # The lock keeps an activation away, which sets the limits of the configuration.
        async with self._registry.lock(name):
            record = self._registry.record(name)
            if not self._runtime.limiting:
                raise conflict(
                    "limits_not_enforced",
                    f"the {self._runtime.name} runtime cannot limit what {name} uses",
                    'run the hive on NixOS with runtime = "nixos" for limits',
                )
            unit = self._registry.unit(name)
            if unit is None or unit.lifecycle not in ("starting", "running"):
                raise conflict("not_running", f"{name} is not running", f"start it first: hive-c0re start {name}")
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
            usage=await self._runtime.usage(name),
        )


def _changed(before: Limits, after: Limits) -> dict[str, list[str | int | None]]:
    """The limits that differ, each with its old and its new value."""
    return {
        key: [getattr(before, key), getattr(after, key)] for key in KEYS if getattr(before, key) != getattr(after, key)
    }
