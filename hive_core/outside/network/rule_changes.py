"""Changes of rules by operators: made, removed, and everything closed again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from hive_core.errors import bad_request, not_found
from hive_core.gate.policy import Principal
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.messaging.question_store import check_exists
from hive_core.outside.network import texts
from hive_core.outside.network.rule_book import RuleBook, RuleChange, end_rules, replace_rule
from hive_core.outside.network.rules import has_room, is_denied, read_entry
from hive_core.outside.network.store import RuleRow
from hive_core.protocol import MakeRule, RemoveRule
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.settings import Egress

_HOUR = 3_600_000


class RuleChanges:
    """Changes the rules of agents, whose names the caller has checked, or of all (`*`). Each change is audited."""

    def __init__(self, settings: Egress, database: Database, book: RuleBook, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._database = database
        self._book = book
        self._clock = clock

    async def make(self, agent: str, request: MakeRule, by: Principal) -> RuleChange:
        """Make a rule, which takes the place of another one for the same host.

        Raises `unknown_agent`, `bad_rule`, `invalid_request`, `host_denied`, `too_many_rules`.
        """
        entry = _entry_of(request)
        detail = {"effect": request.effect, "host": entry, "hours": request.hours}
        async with self._book.changing:
            if request.effect == "allow":
                self.check_effective(agent, entry)
            same_effect = [rule for rule in self._book.made_for(agent) if rule.effect == request.effect]
            if not has_room([rule for rule in same_effect if rule.entry != entry], entry):
                raise texts.too_many_rules(agent)
            now = self._clock()
            ends_at = None if request.hours is None else now + int(request.hours * _HOUR)
            new = RuleRow(0, agent, request.effect, entry, None, by.label, request.note, now, ends_at)

            def operation(db: sqlite3.Connection) -> RuleChange:
                if agent != EVERYONE:
                    check_exists(db, agent)
                audit.append(db, actor=by.actor, action="network_rule", subject=agent, detail=detail)
                return replace_rule(db, new)

            change = await self._database.write(operation)
            self._book.apply(change)
        return change

    async def remove(self, agent: str, request: RemoveRule, by: Principal) -> RuleChange:
        """Remove the rule that was made for a host. Raises `bad_rule`, `unknown_rule`."""
        async with self._book.changing:
            # By its text, too: an entry that is none any more, after an update, can be removed.
            rules = [rule for rule in self._book.made_for(agent) if rule.entry and rule.entry == request.host]
            entry = request.host if rules else read_entry(request.host)
            rules = rules or [rule for rule in self._book.made_for(agent) if rule.entry == entry]
            if not rules:
                raise not_found(
                    "unknown_rule",
                    f"no rule for {entry} was made for {'all agents' if agent == EVERYONE else agent}",
                    f"{texts.command(agent)} shows the rules; a proposal changes those of agent.toml",
                )
            return await self._end(agent, rules, by, "network_remove", {"host": entry})

    async def close(self, agent: str, by: Principal) -> RuleChange:
        """End the rules that open everything."""
        async with self._book.changing:
            rules = [rule for rule in self._book.made_for(agent) if rule.effect == "open"]
            return await self._end(agent, rules, by, "network_close", {"opened": len(rules)})

    def check_effective(self, agent: str, entry: str, *, replaces: bool = True) -> None:
        """Raise `host_denied` for a host that the settings, or another rule, deny whatever allows it.

        With `replaces`, the new rule takes the place of one for the same host, which may deny it.
        """
        if is_denied(entry, self._settings.deny):
            raise texts.denied_by_settings(entry)
        for rule in self._book.of(agent):
            is_replaced = replaces and (rule.agent, rule.entry) == (agent, entry)
            if rule.effect == "deny" and not is_replaced and is_denied(entry, [rule.entry]):
                raise texts.denied_by_rule(entry, rule)

    async def _end(
        self, agent: str, rules: Sequence[RuleRow], by: Principal, action: str, detail: dict[str, object]
    ) -> RuleChange:
        now = self._clock()

        def operation(db: sqlite3.Connection) -> RuleChange:
            audit.append(db, actor=by.actor, action=action, subject=agent, detail=detail)
            return end_rules(db, rules, now, by.label)

        change = await self._database.write(operation)
        self._book.apply(change)
        return change


def _entry_of(request: MakeRule) -> str:
    """Return the host of a rule in its normal spelling; "" for one that opens everything."""
    if request.effect == "open":
        if request.host is not None:
            raise bad_request("a rule that opens everything has no host", "leave it out")
        if request.hours is None:
            raise bad_request("a rule that opens everything has an end", "say for how many hours")
        return ""
    if request.host is None:
        raise bad_request("the host is missing", "write it as crates.io or github.com:22, or name a set")
    return read_entry(request.host)
