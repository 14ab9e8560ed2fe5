"""Limits of agents as they are, and changed while an agent runs: until it is activated anew, and no longer."""

from __future__ import annotations

from hive_core.agents.deployment import DeploymentManager
from hive_core.agents.limits import KEYS
from hive_core.agents.store import AgentRecord
from hive_core.errors import bad_request, conflict
from hive_core.infra.database import audit
from hive_core.protocol import Limits, LimitsAnswer, LimitsRequest


class AgentLimits(DeploymentManager):
    """What agents may use, and what they do use."""

    async def limits(self, name: str) -> LimitsAnswer:
        """What is configured, in force and used; raises like `record`."""
        return await self._limits(self.record(name))

    async def set_limits(self, name: str, request: LimitsRequest, actor: str) -> LimitsAnswer:
        """Put other limits in force at once. Nothing but the audit row remembers them.

        What is not changed stays within the ceilings. Raises like `record`, and `invalid_request`, `above_ceiling`,
        `limits_not_enforced`, `not_running`.
        """
        self.record(name)
        asked = {key: getattr(request, key) for key in KEYS if getattr(request, key) is not None}
        if not asked and not request.reset:
            raise bad_request("no limit is named", f"name one of {', '.join(KEYS)}, or reset")
        self._limit_policy.check(Limits.model_validate(asked))
        # Not while it is activated: that gives it the limits of its configuration.
        async with self._locks[name]:
            record = self.record(name)
            if not self._runtime.limiting:
                raise conflict(
                    "limits_not_enforced",
                    f"the {self._runtime.name} runtime cannot limit what {name} uses",
                    'run the hive on NixOS with runtime = "nixos" for limits',
                )
            unit = self._unit(name)
            if unit is None or unit.lifecycle not in ("starting", "running"):
                raise conflict("not_running", f"{name} does not run", f"start it first: hive-c0re start {name}")
            before = await self._runtime.limits(name)
            base = self._limit_policy.effective(record.config) if request.reset else before
            new = self._limit_policy.within(base.model_copy(update=asked))
            detail = {"changed": _changed(before, new), "reset": request.reset}
            # Written first, as with every action: what cannot be written down is not done.
            await self._database.write(
                lambda db: audit.append(db, actor=actor, action="limits", subject=name, detail=detail)
            )
            await self._runtime.limit(name, new)
            return await self._limits(record)

    async def _limits(self, record: AgentRecord) -> LimitsAnswer:
        name = record.name
        return LimitsAnswer(
            name=name,
            configured=self._limit_policy.effective(record.config),
            in_force=await self._runtime.limits(name),
            enforced=self._runtime.limiting,
            usage=await self._runtime.usage(name),
        )


def _changed(before: Limits, after: Limits) -> dict[str, list[str | int | None]]:
    """What differs: the limit, what it was and what it becomes."""
    return {
        key: [getattr(before, key), getattr(after, key)] for key in KEYS if getattr(before, key) != getattr(after, key)
    }
