"""Approval by rules: whether a built configuration that a rule fits does the same as what a person has decided on.

A rule looks at paths and settings, but any file of a configuration can be read by its `agent.nix`, or imported as code.
So a rule only approves a configuration with the same effect as the last one that a party, not a rule, decided on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.auto_approval import Change, matching_rule
from hive_core.gate.context import GateContext
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.infra.git.trees import COUNTED
from hive_core.runtimes.base import BuildFailed, BuildOrder


class RuleStep:
    """Judges built proposals by the rules of the settings."""

    def __init__(self, context: GateContext) -> None:
        self._context = context

    async def find_rule(
        self, row: ProposalRow, order: BuildOrder, change: Change, say: Callable[[str], None]
    ) -> str | None:
        """Return the name of the rule that approves a built configuration, or None.

        `say` gets the reason if a rule fits the change and does not approve it.
        """
        rule = matching_rule(self._context.settings.approval.rules, change)
        if rule is None:
            return None
        why = await self._why_not(row, order)
        say(f'the rule "{rule}" does not approve: {why}' if why else f'the rule "{rule}" approves: no effect changes')
        return None if why else rule

    async def check_inherited(self, row: ProposalRow, order: BuildOrder, deployed: ProposalRow | None) -> None:
        """Raise BuildFailed if a rule approved the commit of a rebuild on another runtime, where it had other effects.

        The hive has moved if the closure that is deployed cannot be activated here. `agent.nix` has no effect with the
        local runtime, so that rules approve there what they would not approve with NixOS.
        """
        if deployed is None or not policy.has_approval_by_rule(deployed.approvals):
            return
        if deployed.closure is not None and await self._context.runtime.has(deployed.closure):
            return
        if why := await self._why_other_effect(row, order):
            raise BuildFailed(
                f"a rule approved {row.agent}/{deployed.number}, whose build output is not here, and does not approve "
                f"it with this runtime: {why}. Propose the configuration anew, so that somebody decides on it"
            )

    async def _why_not(self, row: ProposalRow, order: BuildOrder) -> str:
        try:
            diff = await self._context.in_repository(
                row.agent, lambda repository: repository.diff(row.base, row.commit, 0)
            )
        except HiveError as error:
            if error.code == "stopping":
                raise
            return f"the files cannot be compared: {error.message}"
        unreadable = [file.path for file in diff.files if not file.is_text]
        if unreadable:
            return f"{len(unreadable)} of the changed files hold bytes that are no text"
        if diff.size > COUNTED:
            return "too much changes"
        return await self._why_other_effect(row, order)

    async def _why_other_effect(self, row: ProposalRow, order: BuildOrder) -> str:
        """Return the reason if the effect of a commit is not that of the last deployment that a party decided on."""
        context = self._context
        decided = await context.database.read(lambda db: index.last_decided(db, row.agent))
        if decided is None:
            return "nobody has decided on any deployment of this agent"
        name = f"{decided.agent}/{decided.number}"
        base = replace(order, number=decided.number, commit=decided.commit, allowed_fetches=frozenset())
        try:
            async with asyncio.timeout(context.settings.build_timeout):
                old, new = await context.runtime.effect(base), await context.runtime.effect(order)
        except TimeoutError:
            return f"the comparison with {name} took longer than {context.settings.build_timeout:g} s"
        except (BuildFailed, OSError) as error:
            return f"the comparison with {name} failed: {error}"
        except HiveError as error:
            if error.code == "stopping":
                raise
            return f"the comparison with {name} failed: {error.message}"
        return "" if old == new else f"it changes the system, compared with {name}, the last that a party decided on"
