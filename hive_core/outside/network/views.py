"""The network of agents as operators see it: rules in force, connections, refusals, open requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from hive_core.agents.registry import NetworkState
from hive_core.agents.store import AgentRecord
from hive_core.infra.database.database import Database, to_datetime
from hive_core.outside.network.reports import store as report_store
from hive_core.outside.network.reports.store import RefusalRow
from hive_core.outside.network.reports.traffic import TrafficCounts
from hive_core.outside.network.requests import HostRequests
from hive_core.outside.network.rule_book import RuleBook
from hive_core.outside.network.store import RuleRow
from hive_core.outside.network.texts import REASONS
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import (
    AgentNetwork,
    NetworkOverview,
    NetworkRequestsQuery,
    NetworkRule,
    NetworkService,
    NetworkSummary,
    RefusedHost,
)
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.services import place_in_agent, service_ports
from hive_core.settings import Settings

_MOST_REFUSED = 20
_REQUESTS = 100


class NetworkViews:
    """Collects what operators see."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        book: RuleBook,
        traffic: TrafficCounts,
        requests: HostRequests,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings.egress
        self._offered = settings.services
        self._database = database
        self._book = book
        self._traffic = traffic
        self._requests = requests
        self._clock = clock

    async def overview(self, agents: Sequence[AgentRecord], sees: Sight = EVERYTHING) -> NetworkOverview:
        """Return all agents in short, with the rules for all of them and the open requests."""
        refusals = await self._database.read(report_store.count_refusals)
        return NetworkOverview(
            agents=[self._summary(record, refusals.get(record.name, 0)) for record in agents if sees(record.name)],
            rules=[*self._of_settings(), *map(_shown_rule, self._book.made_for(EVERYONE))],
            requests=(await self._requests.listing(NetworkRequestsQuery(limit=_REQUESTS), sees)).requests,
        )

    async def agent(self, record: AgentRecord) -> AgentNetwork:
        """Return the network of one agent."""
        name = record.name
        most, refusals = await self._database.read(
            lambda db: (report_store.most_refused(db, name, _MOST_REFUSED), report_store.count_refusals(db))
        )
        configured = [_fixed(name, "allow", entry, "agent.toml") for entry in record.config.allowed_hosts]
        return AgentNetwork(
            **dict(self._summary(record, refusals.get(name, 0))),
            rules=[*self._of_settings(), *configured, *map(_shown_rule, self._book.of(name))],
            requests=(await self._requests.listing(NetworkRequestsQuery(agent=name))).requests,
            refused=[_shown_refusal(row) for row in most],
            services=[
                NetworkService(
                    name=each,
                    address=self._offered.get(each),
                    in_agent=place_in_agent(port) if record.sealed else self._offered.get(each),
                )
                for each, port in service_ports(record.config.services).items()
            ],
        )

    def state(self, record: AgentRecord) -> NetworkState:
        """Return the network of an agent in short, from memory."""
        rules, requests = self._book.of(record.name), self._requests.count_open(record.name)
        if not record.sealed:
            return NetworkState(requests=requests)
        lasting = len(self._settings.allow) + len(self._settings.deny) + len(record.config.allowed_hosts)
        count = lasting + sum(1 for rule in rules if rule.effect != "open")
        return NetworkState(*_open_until(rules), rules=count, requests=requests)

    def _summary(self, record: AgentRecord, refusals: int) -> NetworkSummary:
        rules = self._book.of(record.name)
        is_open, until = _open_until(rules)
        made = {effect: [rule for rule in rules if rule.effect == effect] for effect in ("allow", "deny")}
        return NetworkSummary(
            agent=record.name,
            network="sealed" if record.sealed else "host",
            open=is_open,
            open_until=until,
            network_implied=bool(record.network_implied),
            unsealed=record.unsealed and record.config.network == "sealed",
            allowed=len(self._settings.allow) + len(record.config.allowed_hosts) + len(made["allow"]),
            denied=len(self._settings.deny) + len(made["deny"]),
            refusals=refusals,
            traffic=self._traffic.of(record.name, self._clock()),
        )

    def _of_settings(self) -> list[NetworkRule]:
        allowed = [_fixed(EVERYONE, "allow", entry, "settings") for entry in self._settings.allow]
        return allowed + [_fixed(EVERYONE, "deny", entry, "settings") for entry in self._settings.deny]


def _open_until(rules: Sequence[RuleRow]) -> tuple[bool, datetime | None]:
    """Return whether one of the rules opens everything, and the last end of those that do."""
    ends = [rule.ends_at for rule in rules if rule.effect == "open"]
    timed = [end for end in ends if end is not None]
    return bool(ends), to_datetime(max(timed)) if timed else None


def _fixed(agent: str, effect: str, entry: str, origin: str) -> NetworkRule:
    return NetworkRule.model_validate({"agent": agent, "effect": effect, "host": entry, "origin": origin})


def _shown_rule(row: RuleRow) -> NetworkRule:
    return NetworkRule(
        id=row.id,
        agent=row.agent,
        effect=row.effect,
        host=row.entry,
        origin="operator" if row.request is None else "request",
        made_by=row.made_by,
        note=row.note,
        made_at=to_datetime(row.made_at),
        ends_at=None if row.ends_at is None else to_datetime(row.ends_at),
    )


def _shown_refusal(row: RefusalRow) -> RefusedHost:
    return RefusedHost(
        host=row.host,
        port=row.port,
        reason=row.reason,
        why=REASONS.get(row.reason, row.reason),
        missing=row.missing,
        detail=row.detail,
        count=row.times,
        first_at=to_datetime(row.first_at),
        last_at=to_datetime(row.last_at),
    )
