"""The rules made while agents run: in memory, as the policies of agents are made of them, and in the database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from hive_core.infra.database.database import Database
from hive_core.outside.network import store
from hive_core.outside.network.rules import applies_to, is_in_force
from hive_core.outside.network.store import RuleRow
from hive_core.protocol.network.entries import is_usable

log = structlog.get_logger(__name__)

TIME = "time"
"""Ends a rule in the place of a person."""


@dataclass(frozen=True)
class RuleChange:
    """A change that is on disk: rules that have ended, and one that was made."""

    ended: tuple[RuleRow, ...] = ()
    made: RuleRow | None = None

    @property
    def agents(self) -> set[str]:
        """The agents whose rules have changed; `*` for all."""
        rules = self.ended if self.made is None else (*self.ended, self.made)
        return {rule.agent for rule in rules}


class RuleBook:
    """The rules in force. Who changes them holds `changing` from the check to `apply`."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        """`clock` gives the time in milliseconds, and never goes back."""
        self.changing = asyncio.Lock()
        self._database = database
        self._clock = clock
        self._rules: dict[int, RuleRow] = {}

    async def open(self) -> None:
        """Read the rules. Those whose end has passed while no daemon ran are not in force."""
        self._rules = {rule.id: rule for rule in await self._database.read(store.rules_in_force)}
        for rule in self._rules.values():
            if rule.entry and not is_usable(rule.entry):
                log.warning("a rule of the network is none any more", agent=rule.agent, host=rule.entry, id=rule.id)

    def of(self, agent: str) -> list[RuleRow]:
        """Return the rules in force for an agent, with those for all."""
        now = self._clock()
        return [rule for rule in self._rules.values() if applies_to(rule, agent) and is_in_force(rule, now)]

    def made_for(self, agent: str) -> list[RuleRow]:
        """Return the rules in force that were made for just this agent, or for all (`*`)."""
        now = self._clock()
        return [rule for rule in self._rules.values() if rule.agent == agent and is_in_force(rule, now)]

    def next_end(self) -> int | None:
        """Return when the next rule ends."""
        return min((rule.ends_at for rule in self._rules.values() if rule.ends_at is not None), default=None)

    def apply(self, change: RuleChange) -> None:
        """Take over a change that is on disk."""
        for rule in change.ended:
            self._rules.pop(rule.id, None)
        if change.made is not None:
            self._rules[change.made.id] = change.made

    def forget(self, agent: str) -> None:
        """Forget the rules of an agent that is gone; the database has removed them with the agent."""
        self._rules = {number: rule for number, rule in self._rules.items() if rule.agent != agent}

    async def end_due(self) -> RuleChange:
        """End the rules whose time is up. Raises HiveError if that is not stored; they hold no more all the same."""
        async with self.changing:
            now = self._clock()
            due = [rule for rule in self._rules.values() if not is_in_force(rule, now)]
            if due:
                await self._database.write(lambda db: store.end_rules(db, [rule.id for rule in due], now, TIME))
            change = RuleChange(tuple(due))
            self.apply(change)
            return change


def replace_rule(db: sqlite3.Connection, new: RuleRow) -> RuleChange:
    """Store a new rule in the place of those of the same agent for the same host."""
    earlier = store.same_rules(db, new.agent, new.entry)
    return RuleChange(end_rules(db, earlier, new.made_at, new.made_by).ended, store.insert_rule(db, new))


def end_rules(db: sqlite3.Connection, rules: Collection[RuleRow], now: int, by: str) -> RuleChange:
    """Store the end of rules."""
    store.end_rules(db, [rule.id for rule in rules], now, by)
    return RuleChange(tuple(rules))
